"""Trains on one device and with `DataParallel` on four; prints how far apart they end.

Run it with Keras's JAX backend and four devices; JAX makes them of one CPU.
"""

import json

import keras
import numpy as np

import keras_dml

BATCH = 12


def embedder():
    """A small network with batch normalization, always from the same weights."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(8)(inputs))
    return keras.Model(inputs, keras_dml.layers.L2Normalization()(x))


def pair_loss():
    """Pairs that lie across the devices, and a miner."""
    model = embedder()
    miner = keras_dml.losses.MultiSimilarityMiner()
    return model, keras_dml.losses.MultiSimilarity(miner=miner)


def memory():
    """Pairs with past batches."""
    model = keras_dml.models.CrossBatchMemory(embedder(), memory_size=20)
    return model, keras_dml.losses.Contrastive()


def drawn_classes():
    """Classes drawn for the normalized softmax."""
    softmax = keras_dml.layers.NormalizedSoftmax(50, 0.1, sampled_classes=20, seed=1)
    model = keras_dml.models.Classifier(embedder(), softmax)
    return model, keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def drawn_margin():
    """Classes drawn for a margin."""
    proxies = keras_dml.layers.Proxies(50, centers=2, sampled_classes=20, seed=1)
    model = keras_dml.models.Classifier(embedder(), proxies)
    return model, keras_dml.losses.SubCenterArcFace(0.2, 10.0)


def proxy_anchor():
    """A loss of the whole batch with its proxies."""
    model = embedder()
    cosines = keras_dml.layers.Proxies(50)(model.output)
    return keras.Model(model.input, cosines), keras_dml.losses.ProxyAnchor()


def train(make):
    """The weights before and after, and the loss of each epoch."""
    model, loss = make()
    model.compile(keras_dml.optimizers.SGD(0.05, momentum=0.9, l2=1e-3), loss)
    before = model.get_weights()
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(72, 6)).astype("float32"), rng.integers(0, 6, 72)
    history = model.fit(
        x, labels, batch_size=BATCH, epochs=2, shuffle=False, verbose=0
    ).history
    devices = len(model.trainable_variables[0].value.devices())
    return before, model.get_weights(), history["loss"], devices


def greatest(some, others):
    """The greatest difference between lists of arrays."""
    pairs = zip(some, others, strict=True)
    return max(float(np.abs(np.subtract(a, b)).max()) for a, b in pairs)


TRAINED = (pair_loss, memory, drawn_classes, drawn_margin, proxy_anchor)
alone = [train(make) for make in TRAINED]
keras.distribution.set_distribution(keras.distribution.DataParallel())
found = {}
for make, (before, expected, losses, _) in zip(TRAINED, alone, strict=True):
    same, after, shared_losses, devices = train(make)
    found[make.__name__] = {
        "devices": devices,
        "started apart": greatest(same, before),
        "moved": greatest(expected[:1], before[:1]),
        "apart": greatest(after, expected),
        "losses apart": greatest([shared_losses], [losses]),
    }
print(json.dumps(found))
