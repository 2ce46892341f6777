"""Trains on two halves of the CPU and on one device; prints how far apart they end.

python -m tests.optimizers.train_on_two_cpus POLICY

In the first of three epochs the lower layer is frozen.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_dml

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
keras.mixed_precision.set_global_policy(sys.argv[1])


def train(strategy):
    """The weights before and after three epochs of the same batches."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        inputs = keras.Input((6,))
        x = keras.layers.Dense(8, activation="relu")(inputs)
        model = keras.Model(inputs, keras_dml.layers.NormalizedSoftmax(4, 0.5)(x))
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.5, 0.05])
        model.compile(
            keras_dml.optimizers.SGD(rate, momentum=0.9, l2=1e-2),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    before = model.get_weights()
    trunk = keras.Model(inputs, x)
    x = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
    labels = np.arange(32) % 4
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    freeze = keras_dml.training.FreezeTrunk(trunk)
    model.fit(x, labels, epochs=1, callbacks=[freeze], **options)
    frozen = model.get_weights()
    model.fit(x, labels, epochs=3, initial_epoch=1, callbacks=[freeze], **options)
    return before, frozen, model.get_weights()


def apart(some, others):
    """The greatest difference between two lists of arrays."""
    return max(float(np.abs(a - b).max()) for a, b in zip(some, others, strict=True))


two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
start, frozen, mirrored = train(two)
_, _, single = train(tf.distribute.get_strategy())
print(
    json.dumps(
        {
            "replicas": two.num_replicas_in_sync,
            "trunk_moved_while_frozen": apart(start[:2], frozen[:2]),
            "classes_moved_while_frozen": apart(start[2:], frozen[2:]),
            "trunk_moved_after": apart(frozen[:2], mirrored[:2]),
            "apart": apart(mirrored, single),
        }
    )
)
