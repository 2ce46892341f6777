"""A folder of the runs of a study, each of which is trained and measured once."""

import json
import math
import pathlib
import statistics
import time

import keras
import ml_collections
import tensorflow as tf

from experiments._lib.build import build_batches
from experiments._lib.build import build_models
from experiments._lib.build import compile_model
from experiments._lib.build import learning_rate_of
from experiments._lib.build import start_class_weights
from experiments._lib.losses import batch_shape
from experiments._lib.measure import measure
from keras_dml import training
from keras_dml._files import write_json
from keras_dml.data import ImageDataset

_REMEDY = "Delete it, and it is trained again."


def open_runs_folder(folder: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Creates the folder, or checks that it holds runs with the same settings.

    If no run in it is finished, its settings are replaced.

    Raises:
        FileExistsError: if it holds something else.
        ValueError: if it holds runs with other settings, or its settings are damaged.
    """
    settings = json.loads(json.dumps(config.to_dict()))
    runs = folder / "runs"
    file = folder / "config.json"
    if not runs.is_dir():
        training.new_run_directory(folder)
        runs.mkdir()
    elif any(runs.glob("*.json")):
        earlier = _read_json(file, "Name another --output_dir.")
        for name in sorted({*settings, *earlier}):
            if settings.get(name) != earlier.get(name):
                raise ValueError(
                    f"--output_dir={str(folder)!r} holds runs with {name} = "
                    f"{earlier.get(name)!r}; --config.{name} is now "
                    f"{settings.get(name)!r}. Give it the same, or name another folder."
                )
    write_json(file, settings)


def read_run(file: pathlib.Path, test: ImageDataset) -> dict:
    """Reads what `run_once` wrote.

    Raises:
        ValueError: if the file is damaged, or its numbers of images and classes are not
            those of the test set.
    """
    run = _read_json(file, _REMEDY)
    try:
        images, classes = (int(run["metrics"][name]) for name in ("images", "classes"))
    except (KeyError, TypeError, ValueError):
        raise _damaged(file, "it holds no metrics of a run", _REMEDY) from None
    if (images, classes) != (len(test), len(test.class_names)):
        raise ValueError(
            f"{str(file)!r} was measured on {images:,} images of {classes:,} classes, "
            f"and this test set has {len(test):,} of {len(test.class_names):,}. Give "
            "the same --data_dir, or name another --output_dir."
        )
    return run


def run_once(
    file: pathlib.Path,
    config: ml_collections.ConfigDict,
    strategy: tf.distribute.Strategy,
    train: ImageDataset,
    test: ImageDataset,
) -> dict:
    """Reads a run's file if it is there; else trains, measures and writes it.

    Returns:
        What `train_and_measure` returned.

    Raises:
        ValueError: as `read_run` does.
        FloatingPointError: as `train_and_measure` does.
    """
    if file.is_file():
        return read_run(file, test)
    print(file.stem)
    run = train_and_measure(config, strategy, train, test)
    write_json(file, run)
    return run


def train_and_measure(
    config: ml_collections.ConfigDict,
    strategy: tf.distribute.Strategy,
    train: ImageDataset,
    test: ImageDataset,
) -> dict:
    """Trains the config's model on one data set and measures it on another.

    Returns:
        {"seconds": for everything,
         "seconds_an_epoch": the median over the epochs without the first, in which
         TensorFlow traces the model,
         "image_views": the number of images in all batches of all epochs,
         "metrics": what `measure` returned}.

    Raises:
        FloatingPointError: if the loss, a weight or an embedding of the test images
            became infinite or not a number.
    """
    start = time.monotonic()
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        trunk, embedder, model = build_models(config, len(train.class_names))
    batches = build_batches(config, train)
    with strategy.scope():
        compile_model(config, model, len(batches), trunk)
    start_class_weights(config, model, embedder, train)
    epochs = config.frozen_epochs + config.epochs
    progress = _EpochProgress(epochs)
    callbacks = [
        training.StopOnNonFiniteLoss(),
        training.FreezeTrunk(trunk, config.frozen_epochs),
        progress,
    ]
    try:
        model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
        _, _, metrics = measure(config, embedder, test)
    except FloatingPointError as error:
        raise FloatingPointError(
            f"with --config.loss={config.loss} and a learning rate of "
            f"{learning_rate_of(config):g} {error}"
        ) from None
    return {
        "seconds": round(time.monotonic() - start),
        "seconds_an_epoch": statistics.median(progress.seconds[1:] or progress.seconds),
        "image_views": epochs * len(batches) * math.prod(batch_shape(config)),
        "metrics": metrics,
    }


class _EpochProgress(keras.callbacks.Callback):
    """Shows a progress bar that moves once an epoch, and times the epochs."""

    def __init__(self, epochs):
        super().__init__()
        self.bar = keras.utils.Progbar(epochs, unit_name="epoch")
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.monotonic() - self.start)
        self.bar.update(epoch + 1, [("loss", logs["loss"])])


def _read_json(file, remedy):
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(file, error, remedy) from None
    if not isinstance(content, dict):
        raise _damaged(file, "it holds no JSON object", remedy)
    return content


def _damaged(file, reason, remedy):
    return ValueError(f"{str(file)!r} is damaged ({reason}). {remedy}")
