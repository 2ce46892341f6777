"""Trains on a tiny set for many epochs, and prints the memory after each.

python measure_memory.py FOLDER EPOCHS

Every epoch is measured and saved: `class_balanced_batches` of image files, `fit`,
`RetrievalEvaluation` and `Resume`. Prints MiB that the process holds, one line an
epoch, after Python's garbage has been collected.
"""

import gc
import pathlib
import sys

import keras
import numpy as np
from PIL import Image

from keras_dml.data import ImageDataset
from keras_dml.data import class_balanced_batches
from keras_dml.evaluation import RetrievalEvaluation
from keras_dml.training import Resume
from tests.benchmarks.peak_memory import resident_mib

SIDE = 14


class Memory(keras.callbacks.Callback):
    """Prints the memory after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        gc.collect()
        print(f"{resident_mib():.1f}", flush=True)

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def main(folder, epochs):
    folder = pathlib.Path(folder)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 4)
    paths = [str(folder / f"{row}.png") for row in range(20)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    dataset = ImageDataset(paths, labels, tuple("abcde"))
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(8, 3)(keras.layers.Rescaling(1 / 255)(images))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x))
    embedder = keras.Model(images, x)
    model = keras.Model(images, keras.layers.Dense(5)(embedder.output))
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    batches = class_balanced_batches(dataset, 2, 2, image_size=SIDE)
    callbacks = [RetrievalEvaluation(embedder, dataset, ks=(1,)), Memory()]
    resume = Resume(folder / "checkpoints", batches, callbacks, minutes=0)
    model.fit(batches, epochs=epochs, verbose=0, callbacks=[*callbacks, resume])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
