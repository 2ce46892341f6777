"""Trains on sampled classes, on two halves of the CPU and on one device.

Prints how far apart they end, with the normalized softmax and with a margin.
"""

import json

import keras
import numpy as np
import tensorflow as tf

import keras_dml

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)


def layer_and_loss(name):
    """What draws classes, and the loss of what it gives."""
    if name == "softmax":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return keras_dml.layers.NormalizedSoftmax(50, 0.1, 10, seed=1), loss
    proxies = keras_dml.layers.Proxies(50, centers=2, sampled_classes=10, seed=1)
    return proxies, keras_dml.losses.SubCenterArcFace(0.2, 10.0)


def train(strategy, name):
    """The class weights before and after, the losses, and the steps drawn."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        inputs = keras.Input((6,))
        embedder = keras.Model(inputs, keras.layers.Dense(8)(inputs))
        layer, loss = layer_and_loss(name)
        model = keras_dml.models.Classifier(embedder, layer)
        model.compile(keras_dml.optimizers.SGD(0.1, momentum=0.9, l2=1e-3), loss)
    before = layer.class_weights.numpy()
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(96, 6)).astype("float32"), rng.integers(0, 50, 96)
    history = model.fit(x, labels, batch_size=12, epochs=3, shuffle=False, verbose=0)
    after = layer.class_weights.numpy()
    return before, after, history.history["loss"], int(layer.draws.numpy()[1])


two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
result = {"replicas": two.num_replicas_in_sync}
for name in ("softmax", "margin"):
    before, mirrored, losses, steps = train(two, name)
    _, single, single_losses, single_steps = train(tf.distribute.get_strategy(), name)
    result[name] = {
        "moved": float(np.abs(mirrored - before).max()),
        "apart": float(np.abs(mirrored - single).max()),
        "losses apart": float(np.abs(np.subtract(losses, single_losses)).max()),
        "steps drawn": [steps, single_steps],
    }
print(json.dumps(result))
