"""NormalizedSoftmax on one device against class weights split over four, on JAX.

The four are virtual devices of one CPU, so the figures tell what splitting costs and
what each device must hold, not how much faster four would be. Run it with
`make benchmark-sharded-classes`.
"""

import statistics
import time

import jax
import keras
import numpy as np
import tensorflow as tf

import keras_dml
from tests.benchmarks.alternating_medians import pin_threads

_BATCH = 76  # the paper's 75 does not split into four
_DIM = 512
_CLASSES = (10_000, 100_000)
_STEPS = 4
_ROUNDS = 5
_MESHES = {
    "one device": None,
    "4": ((4,), ("classes",)),
    "1 × 4": ((1, 4), ("batch", "classes")),
}


def _distribution(mesh):
    if mesh is None:
        return None
    mesh = keras.distribution.DeviceMesh(
        *mesh, keras.distribution.list_devices("cpu")[:4]
    )
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*class_weights"] = ("classes", None)
    return keras.distribution.ModelParallel(layout_map=layout)


class _Steps(keras.callbacks.Callback):
    """Notes the loss of every step and the seconds that it took."""

    def __init__(self):
        super().__init__()
        self.losses, self.seconds = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))  # waits until it is there
        self.seconds.append(time.perf_counter() - self.start)

    def measured(self):
        """All losses, and the median seconds of a step after the first round."""
        return np.array(self.losses), statistics.median(self.seconds[_STEPS:])


class _Case:
    """A model on one of the meshes, and the batch that it is trained on."""

    def __init__(self, mesh, classes):
        self.distribution = _distribution(mesh)
        keras.distribution.set_distribution(self.distribution)
        keras.utils.set_random_seed(0)
        inputs = keras.Input((64,))
        embeddings = keras.layers.Dense(_DIM)(inputs)
        logits = keras_dml.layers.NormalizedSoftmax(classes)(embeddings)
        self.model = keras.Model(inputs, logits)
        self.model.compile(
            keras_dml.optimizers.SGD(0.01, momentum=0.9, l2=1e-4),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        rng = np.random.default_rng(0)
        batch = (
            rng.normal(size=(_BATCH, 64)).astype("float32"),
            rng.integers(0, classes, _BATCH),
        )
        self.batches = tf.data.Dataset.from_tensors(batch).cache().repeat(_STEPS)
        self.steps = _Steps()

    def train(self):
        keras.distribution.set_distribution(self.distribution)
        self.model.fit(self.batches, verbose=0, shuffle=False, callbacks=[self.steps])

    def state_mb(self):
        """What the first device holds of the class weights and their velocity."""
        variables = (
            self.model.layers[-1].class_weights,
            self.model.optimizer.velocities[-1],
        )
        shards = [variable.value.addressable_shards[0] for variable in variables]
        return sum(shard.data.nbytes for shard in shards) / 1e6

    def temporary_mb(self):
        """What the compiled step needs beside its arguments on each device."""
        # Keras has no public way to its compiled step, so the same one is compiled.
        keras.distribution.set_distribution(self.distribution)
        state = self.model._get_jax_state(
            trainable_variables=True,
            non_trainable_variables=True,
            optimizer_variables=True,
            metrics_variables=True,
        )
        shardings = None
        batch = next(self.batches.as_numpy_iterator())
        if self.distribution is not None:
            shardings = (None, self.model._get_state_sharding_spec())
            batch = tuple(
                keras.distribution.distribute_tensor(
                    part, self.distribution.get_data_layout(part.shape)
                )
                for part in batch
            )
        step = jax.jit(self.model.train_step, donate_argnums=0, out_shardings=shardings)
        plan = step.lower(state, batch).compile().memory_analysis()
        return plan.temp_size_in_bytes / 1e6


def main():
    """Prints a table with a row for each number of classes and mesh."""
    pin_threads()
    print(
        f"JAX {jax.__version__}; batch {_BATCH}, {_DIM} dimensions; medians of "
        f"{_ROUNDS} alternating rounds of {_STEPS} steps; MB a device"
    )
    print(
        "| classes | mesh | ms a step | × one device | weights, velocity | temporary "
        "| loss apart |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for classes in _CLASSES:
        cases = {name: _Case(mesh, classes) for name, mesh in _MESHES.items()}
        for _ in range(1 + _ROUNDS):
            for case in cases.values():
                case.train()
        losses, seconds = cases["one device"].steps.measured()
        for name, case in cases.items():
            these_losses, these_seconds = case.steps.measured()
            apart = np.abs(these_losses / losses - 1).max()
            print(
                f"| {classes:,} | {name} | {1000 * these_seconds:.0f} "
                f"| {these_seconds / seconds:.2f} "
                f"| {case.state_mb():.0f} | {case.temporary_mb():.0f} | {apart:.0e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
