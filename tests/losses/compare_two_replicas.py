"""Compares two replicas with one device; prints how far apart they are.

Each loss of the library, with the gradient of its value by weights before it; and
whole trainings by `fit`. The classes of a batch lie across both replicas.
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

TWO = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
ONE = tf.distribute.OneDeviceStrategy("CPU:0")
LOSSES = {
    name: getattr(keras_dml.losses, name)()
    for name in keras_dml.losses.__all__
    if isinstance(getattr(keras_dml.losses, name), type)
    and name not in ("MultiSimilarityMiner", "PairLoss", "ProxyLoss")
}
LOSSES["MultiSimilarity, sum"] = keras_dml.losses.MultiSimilarity(reduction="sum")

rng = np.random.default_rng(0)
x = rng.normal(size=(24, 6)).astype("float32")
labels = np.tile([0, 1, 2, 3, 0, 1, 3, 3], 3)


def losses_and_gradients(strategy):
    """For each loss its value and its gradient by the two matrices before it."""
    generator = np.random.default_rng(1)
    shapes = (6, 5), (5, 4)
    with strategy.scope():
        weights = [
            tf.Variable(generator.normal(size=shape).astype("float32"))
            for shape in shapes
        ]

    def on_replica(images, classes):
        found = {}
        for name, loss in LOSSES.items():
            with tf.GradientTape() as tape:
                y = images @ weights[0]
                if isinstance(loss, keras_dml.losses.ProxyLoss):
                    y = tf.linalg.normalize(y, axis=1)[0] @ weights[1] / 3
                value = loss(classes, y)
            gradients = tape.gradient(
                value, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            replica = tf.distribute.get_replica_context()
            found[name] = replica.all_reduce("sum", [value, *gradients])
        return found

    @tf.function
    def step():
        def piece(array):
            size = 16 // strategy.num_replicas_in_sync
            return strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(
                    array[size * context.replica_id_in_sync_group :][:size]
                )
            )

        return strategy.run(on_replica, args=(piece(x), piece(labels)))

    return tf.nest.map_structure(
        lambda value: strategy.experimental_local_results(value)[-1].numpy(), step()
    )


def train(strategy, loss):
    """The weights before and after, and the loss of the last epoch and of all."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        layers = [keras.Input((6,)), keras.layers.Dense(5)]
        if isinstance(loss, keras_dml.losses.ProxyLoss):
            layers.append(keras_dml.layers.Proxies(4))
        model = keras.Sequential(layers)
        model.compile(keras.optimizers.SGD(0.05), loss)
    before = model.get_weights()
    history = model.fit(x, labels, 8, epochs=2, shuffle=False, verbose=0).history
    evaluated = model.evaluate(x, labels, 8, verbose=0)
    return before, model.get_weights(), [history["loss"][-1], evaluated]


def greatest(first, second):
    """The greatest difference between lists of arrays."""
    pairs = zip(first, second, strict=True)
    return max(float(np.abs(np.subtract(a, b)).max()) for a, b in pairs)


found = {"replicas": TWO.num_replicas_in_sync, "losses": {}, "trained": {}}
mirrored, single = losses_and_gradients(TWO), losses_and_gradients(ONE)
for name in LOSSES:
    scale = max(float(np.abs(part).max()) for part in single[name][1:])
    found["losses"][name] = {
        "value": float(single[name][0]),
        "value apart": abs(float(mirrored[name][0] - single[name][0])),
        "gradient": scale,
        "gradient apart": greatest(mirrored[name][1:], single[name][1:]),
    }
for name in ("TripletSemiHard", "ProxyAnchor"):
    before, after, values = train(TWO, LOSSES[name])
    _, expected, expected_values = train(ONE, LOSSES[name])
    found["trained"][name] = {
        "moved": greatest(after, before),
        "apart": greatest(after, expected),
        "relative losses apart": max(
            abs(value / expected_value - 1)
            for value, expected_value in zip(values, expected_values, strict=True)
        ),
    }
print(json.dumps(found))
