"""Trains with a memory on two halves of the CPU and on one device.

Prints how far apart they end.
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


def train(strategy):
    """The weights, memory included, before and after, and the losses."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        inputs = keras.Input((6,))
        dense = keras.layers.Dense(5, kernel_regularizer=keras.regularizers.L2(0.1))
        embedder = keras.Model(inputs, dense(inputs))
        model = keras_dml.models.CrossBatchMemory(embedder, memory_size=20)
        model.compile(keras.optimizers.SGD(0.05), keras_dml.losses.MultiSimilarity())
    before = embedder.get_weights()
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(48, 6)).astype("float32"), rng.integers(0, 5, 48)
    history = model.fit(x, labels, batch_size=12, epochs=2, shuffle=False, verbose=0)
    after = [*embedder.get_weights(), model.memory.numpy(), model.memory_labels.numpy()]
    return before, after, history.history["loss"], model.written.numpy()


def greatest(first, second):
    """The greatest difference between lists of arrays."""
    pairs = zip(first, second, strict=True)
    return max(float(np.abs(np.subtract(a, b)).max()) for a, b in pairs)


two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
before, mirrored, losses, written = train(two)
_, single, single_losses, single_written = train(tf.distribute.get_strategy())
assert written.tolist() == single_written.tolist()
print(
    json.dumps(
        {
            "replicas": two.num_replicas_in_sync,
            "moved": greatest(mirrored[: len(before)], before),
            "apart": greatest(mirrored, single),
            "losses apart": greatest(losses, single_losses),
            "written": [int(number) for number in written],
        }
    )
)
