"""Trains on two workers and, if asked, in one process with two replicas.

python fit_on_workers.py FOLDER KINDS [mirrored]

KINDS are those of `MODELS`, separated by commas. FOLDER gets `0.npz` and `1.npz` of the
workers, and `mirrored.npz` of the other process, which batch normalization is only
compared with: for each kind the losses of all steps, the weights and the embeddings,
and how many images were loaded.
"""

import pathlib
import sys

import keras
import numpy as np

import keras_dml
from keras_dml import training
from tests.workers import run_workers

BATCH = 12
LABELS = np.arange(96) % 12


class CountedImages:
    """A `LoadableDataset` that counts what it loads."""

    labels = LABELS

    def __init__(self):
        self.loaded = 0
        rng = np.random.default_rng(0)
        colors = rng.integers(0, 256, (12, 1, 1, 3))[LABELS]
        noise = rng.normal(0, 40, (96, 12, 12, 3))
        self.images = np.clip(colors + noise, 0, 255).astype(np.uint8)

    def load(self, rows):
        self.loaded += len(rows)
        return self.images[rows]


def build_embedder(batch_norm):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2)(x)
    if batch_norm:
        x = keras.layers.BatchNormalization(momentum=0.5)(x)
    x = keras.layers.Dense(6)(keras.layers.Flatten()(keras.layers.ReLU()(x)))
    return keras.Model(inputs, keras_dml.layers.L2Normalization()(x))


def full_softmax(embedder):
    logits = keras_dml.layers.NormalizedSoftmax(12, 0.2)(embedder.output)
    return keras.Model(embedder.input, logits), cross_entropy(), ["accuracy"]


def sampled_softmax(embedder):
    softmax = keras_dml.layers.NormalizedSoftmax(12, 0.2, sampled_classes=6)
    return keras_dml.models.Classifier(embedder, softmax), cross_entropy(), ["accuracy"]


def gathered_pairs(embedder):
    model = keras.Model(embedder.input, embedder.output)
    return model, keras_dml.losses.TripletSemiHard(), []


def memory(embedder):
    model = keras_dml.models.CrossBatchMemory(embedder, 3 * BATCH)
    return model, keras_dml.losses.Contrastive(), []


MODELS = {one.__name__: one for one in (full_softmax, sampled_softmax, gathered_pairs)}
MODELS["memory"] = memory


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(strategy, kind, batch_norm):
    """What a training comes to, by name; with batch normalization a longer one."""
    with strategy.scope():
        embedder = build_embedder(batch_norm)
        model, loss, metrics = MODELS[kind](embedder)
        optimizer = keras_dml.optimizers.SGD(0.05, momentum=0.9, l2=1e-3)
        model.compile(optimizer, loss, metrics=metrics)
    losses = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: losses.append(logs["loss"])
    )
    train, test = CountedImages(), CountedImages()
    batches = keras_dml.data.class_balanced_batches(train, 4, 3, image_size=8)
    callbacks = [note]
    if batch_norm:
        callbacks.append(
            keras_dml.evaluation.RetrievalEvaluation(
                embedder, test, ks=(1,), resize=9, batch_size=20
            )
        )
    at_start = train.loaded
    history = model.fit(
        batches,
        epochs=1 + batch_norm,
        verbose=0,
        shuffle=False,
        callbacks=callbacks,
    ).history
    loaded = train.loaded - at_start
    at_start = test.loaded
    embeddings = keras_dml.evaluation.embed(
        embedder, test, resize=9, batch_size=20, verbose=0
    )
    return {
        "losses": losses,
        "epochs": history["loss"],
        "recall": history.get("val_recall@1", []),
        "weights": np.concatenate([one.ravel() for one in embedder.get_weights()]),
        "embeddings": embeddings,
        "loaded": [loaded, test.loaded - at_start],
    }


def save(file, strategy, kinds, batch_norm):
    found = {}
    for kind in kinds:
        for name, value in fit(strategy, kind, batch_norm).items():
            found[f"{kind}/{name}"] = value
    np.savez(file, **found)


def main(folder, kinds, mirrored=""):
    folder, kinds, batch_norm = pathlib.Path(folder), kinds.split(","), bool(mirrored)

    def work(worker):
        strategy = training.multi_worker_strategy()
        save(folder / f"{worker}.npz", strategy, kinds, batch_norm)
        training.wait_for_chief()

    codes, _ = run_workers(work, folder)
    for worker, code in enumerate(codes):
        if code:
            sys.exit((folder / f"stderr-{worker}").read_text())
    if mirrored:
        save(folder / "mirrored.npz", training.mirrored_strategy(2), kinds, batch_norm)


if __name__ == "__main__":
    main(*sys.argv[1:])
