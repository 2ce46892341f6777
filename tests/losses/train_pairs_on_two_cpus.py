"""Trains on two halves of the CPU, and by hand; prints how far apart they end.

By hand, the loss is the mean of that of the first and that of the second half of each
batch, as no pair spans two replicas.
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


def build(loss):
    """A compiled model, always from the same weights."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((6,)), keras.layers.Dense(5)]
    if isinstance(loss, keras_dml.losses.ProxyLoss):
        layers.append(keras_dml.layers.Proxies(4))
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.05), loss)
    return model


x = np.random.default_rng(0).normal(size=(24, 6)).astype("float32")
labels = np.tile(np.repeat(np.arange(4), 2), 3)
two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
found = {"replicas": two.num_replicas_in_sync}
for loss in (keras_dml.losses.TripletSemiHard(), keras_dml.losses.ProxyAnchor()):
    with two.scope():
        mirrored = build(loss)
    start = mirrored.get_weights()
    history = mirrored.fit(x, labels, 8, epochs=2, shuffle=False, verbose=0).history
    by_hand = build(loss)
    values = []
    for step in range(6):
        batch = slice(8 * (step % 3), 8 * (step % 3) + 8)
        with tf.GradientTape() as tape:
            y = by_hand(x[batch])
            first, second = labels[batch][:4], labels[batch][4:]
            value = (loss(first, y[:4]) + loss(second, y[4:])) / 2
        variables = by_hand.trainable_variables
        gradients = tape.gradient(value, variables)
        by_hand.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        values.append(float(value))
    pairs = zip(mirrored.get_weights(), by_hand.get_weights(), strict=True)
    found[type(loss).__name__] = {
        "apart": max(float(np.abs(a - b).max()) for a, b in pairs),
        "moved": max(
            float(np.abs(a - b).max())
            for a, b in zip(mirrored.get_weights(), start, strict=True)
        ),
        "loss": history["loss"][-1],
        "loss by hand": float(np.mean(values[3:])),
    }
print(json.dumps(found))
