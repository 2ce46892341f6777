"""The folder of a run: new, or that of a run to go on with."""

import json
import pathlib
import shutil
from typing import Any

import ml_collections

from experiments._lib.load_run import load_run_config
from keras_dml import training
from keras_dml._files import remove_unfinished
from keras_dml._files import write_json
from keras_dml._ops import IS_KERAS_2

CHECKPOINTS = "checkpoints"
"""The folder in that of a run with what it goes on from."""

_RESULTS = ("metrics.json", "embedding.keras", "trunk.weights.h5")
_RESULT_FOLDERS = ("index", "report", "serving")


def is_finished(
    folder: pathlib.Path, config: ml_collections.ConfigDict, extend: bool
) -> bool:
    """Whether a run is finished; checks first that it can begin or go on in a folder.

    It changes nothing.

    Args:
        folder: a path that does not exist yet, an empty folder, or that of a run.
        config: the settings of the run, which are to be those that it began with.
        extend: whether it may be trained for more epochs than it began with.

    Raises:
        ValueError: if a run began there with other settings.
        OSError: if the folder holds something else, or can't be made.
    """
    if IS_KERAS_2 or not (folder / "config.json").is_file():
        try:
            training.check_run_directory(folder)
        except OSError as error:
            raise type(error)(f"--output_dir: {error}") from error
        return False
    before, now = load_run_config(folder), _as_json(config)
    keys = sorted(before.keys() | now)
    differ = [key for key in keys if before.get(key) != now.get(key)]
    if extend and differ == ["epochs"] and now["epochs"] > before["epochs"]:
        return False
    if differ:
        values = "; ".join(
            f"--config.{key} was {before.get(key)!r} and is {now.get(key)!r}"
            for key in differ
        )
        remedy = (
            "give --extend to train it longer"
            if differ == ["epochs"]
            else "give it the same, or name another folder"
        )
        raise ValueError(
            f"--output_dir={str(folder)!r} has a run with other settings: {values}; "
            f"{remedy}."
        )
    return (folder / "metrics.json").is_file()


def open_run_folder(folder: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Makes the folder of a run, or takes that of one that `is_finished` has checked.

    Where a finished run is to be extended, what it wrote at its end is removed.
    """
    if not (folder / "config.json").is_file():
        training.new_run_directory(folder)
    remove_unfinished(folder)
    settings = folder / "config.json"
    if settings.is_file() and load_run_config(folder) != _as_json(config):
        for name in _RESULTS:
            (folder / name).unlink(missing_ok=True)
        for name in _RESULT_FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
    write_json(settings, config.to_dict())


def _as_json(config: ml_collections.ConfigDict) -> dict[str, Any]:
    return json.loads(json.dumps(config.to_dict()))
