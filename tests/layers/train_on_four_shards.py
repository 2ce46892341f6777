"""Trains with the class weights on one device and over four; prints what differs.

Run it with Keras's JAX backend and four devices; JAX makes them of one CPU.
"""

import json
import pathlib
import sys
import tempfile

import keras
import numpy as np

import keras_dml

BATCH = 12
STEPS = 6


def build():
    """A compiled model of 20 classes, always from the same weights."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8)(inputs)
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(inputs, keras_dml.layers.NormalizedSoftmax(20, 0.5)(x))
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([4], [0.5, 0.05])
    model.compile(
        keras_dml.optimizers.SGD(rate, momentum=0.9, l2=1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def train(model):
    """The loss of each step."""
    losses = []

    class Note(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(float(logs["loss"]))

    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * STEPS, 6)).astype("float32")
    labels = rng.integers(0, 20, BATCH * STEPS)
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    model.fit(x, labels, callbacks=[Note()], **options)
    return np.array(losses)


def rows(variable):
    """The rows that each device holds."""
    return [shard.data.shape[0] for shard in variable.value.addressable_shards]


def apart(some, others):
    """The greatest difference between two lists of arrays."""
    return max(float(np.abs(a - b).max()) for a, b in zip(some, others, strict=True))


def saved_and_loaded(model):
    """The model as it comes back from a `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "model.keras"
        model.save(file)
        return keras.models.load_model(file)


single = build()
start = single.get_weights()
losses = train(single)
trained = single.get_weights()
losses_after = train(single)

shape, axes, batch_axis = json.loads(sys.argv[1])
mesh = keras.distribution.DeviceMesh(
    shape, axes, keras.distribution.list_devices("cpu")
)
layout = keras.distribution.LayoutMap(mesh)
layout[".*class_weights"] = ("classes", None)
keras.distribution.set_distribution(
    keras.distribution.ModelParallel(layout_map=layout, batch_dim_name=batch_axis)
)
sharded = build()
found = {
    "losses apart": apart([losses], [train(sharded)]),
    "weights apart": apart(trained, sharded.get_weights()),
    "moved": apart(trained[-1:], start[-1:]),
    "rows": rows(sharded.layers[-1].class_weights),
    "velocity rows": rows(sharded.optimizer.velocities[-1]),
}
loaded = saved_and_loaded(sharded)
found["loaded rows"] = rows(loaded.layers[-1].class_weights)
found["loaded velocity rows"] = rows(loaded.optimizer.velocities[-1])
found["losses apart after loading"] = apart([losses_after], [train(loaded)])
print(json.dumps(found))
