"""Steps a second of two workers on this machine against one process.

One process has one core, or two; two workers have a core each and talk through gRPC on
127.0.0.1, so the figures tell what the workers' talk costs, not what a network does.
Run it with `make benchmark-workers`.
"""

import json
import os
import pathlib
import statistics
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

import keras_dml
from keras_dml import training
from tests.benchmarks.machine import machine
from tests.workers import run_workers

_SIDE = 32
_BATCH = 80
_STEPS = 20
_EPOCHS = 3
_CLASSES = (100, 100_000)


class _Steps(keras.callbacks.Callback):
    """Notes the seconds of every step after the first epoch, and those of the CPU."""

    def __init__(self):
        super().__init__()
        self.epoch, self.seconds = 0, []

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if epoch == 1:
            self.cpu_start = time.process_time()

    def on_train_end(self, logs=None):
        self.cpu_seconds = time.process_time() - self.cpu_start

    def on_train_batch_begin(self, batch, logs=None):
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch:
            self.seconds.append(time.perf_counter() - self.start)


def _train(strategy, classes):
    """Gives (steps a second, CPU seconds a step, numbers in the trained weights)."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        trunk = keras_dml.models.trunk("conv4", (_SIDE, _SIDE, 3))
        embedder = keras_dml.models.embedding_model(trunk, dim=64)
        logits = keras_dml.layers.NormalizedSoftmax(classes)(embedder.output)
        model = keras.Model(embedder.input, logits)
        model.compile(
            keras_dml.optimizers.SGD(0.01, momentum=0.9, l2=1e-4),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    rng = np.random.default_rng(0)
    labels = np.arange(_STEPS * _BATCH) % 100
    images = rng.integers(0, 256, (len(labels), _SIDE, _SIDE, 3), np.uint8)
    batches = keras_dml.data.class_balanced_batches((images, labels), 16, 5)
    steps = _Steps()
    model.fit(batches, epochs=_EPOCHS, shuffle=False, verbose=0, callbacks=[steps])
    weights = sum(int(np.prod(one.shape)) for one in model.trainable_variables)
    cpu_seconds = steps.cpu_seconds / len(steps.seconds)
    return 1 / statistics.median(steps.seconds), cpu_seconds, weights


def _measure(classes, workers, cores):
    """Trains in new processes; gives (steps a second, CPU seconds a step, weights)."""
    with tempfile.TemporaryDirectory() as folder:

        def work(worker):
            usable = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, usable[worker * cores : (worker + 1) * cores])
            tf.config.threading.set_intra_op_parallelism_threads(cores)
            if workers == 1:
                del os.environ["TF_CONFIG"]
                strategy = tf.distribute.get_strategy()
            else:
                strategy = training.multi_worker_strategy()
            found = _train(strategy, classes)
            pathlib.Path(folder, f"{worker}.json").write_text(json.dumps(found))
            training.wait_for_chief()

        codes, _ = run_workers(work, folder, workers)
        if any(codes):
            raise SystemExit(pathlib.Path(folder, "stderr-0").read_text())
        files = pathlib.Path(folder).glob("*.json")
        found = [json.loads(file.read_text()) for file in files]
        rates, cpu_seconds, weights = zip(*found, strict=True)
        return min(rates), sum(cpu_seconds), weights[0]


def main():
    """Prints a table with a row for each number of classes."""
    print(f"{machine('tensorflow', 'keras')}; batches of {_BATCH}")
    print("steps a second (CPU seconds a step, of all workers)\n")
    print(
        "| classes | trained weights | one process, a core | one process, two cores "
        "| two workers, a core each |"
    )
    print("| --- | --- | --- | --- | --- |")
    for classes in _CLASSES:
        found = [_measure(classes, *case) for case in ((1, 1), (1, 2), (2, 1))]
        cells = " | ".join(f"{rate:.1f} ({cpu:.2f})" for rate, cpu, _ in found)
        print(f"| {classes:,} | {found[0][2]:,} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
