"""A folder of many runs, of which each is trained once."""

import json
import pathlib

import ml_collections
import tensorflow as tf

from experiments.train_and_measure import train_and_measure
from keras_dml import training
from keras_dml.data import ImageDataset

_AGAIN = "Delete it, and it is trained again."


def claim_folder(folder: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Makes the folder, or makes sure that it holds runs of the same settings.

    Settings with which no run has been finished don't count.

    Raises:
        FileExistsError: if it holds something else.
        ValueError: if it holds runs of other settings, or its settings are damaged.
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
    training.write_json(file, settings)


def finished_run(file: pathlib.Path, test: ImageDataset) -> dict:
    """Reads the figures of a run.

    Raises:
        ValueError: if the file is damaged, or its figures are of another test set, as
            far as the numbers of images and classes tell.
    """
    run = _read_json(file, _AGAIN)
    try:
        images, classes = (int(run["metrics"][name]) for name in ("images", "classes"))
    except (KeyError, TypeError, ValueError):
        raise _damaged(file, "it has no figures of a run", _AGAIN) from None
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
    """Reads the figures of a run, or does the run and writes them.

    Raises:
        ValueError: as `finished_run` does.
        FloatingPointError: as `train_and_measure` does.
    """
    if file.is_file():
        return finished_run(file, test)
    print(file.stem)
    run = train_and_measure(config, strategy, train, test)
    training.write_json(file, run)
    return run


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
