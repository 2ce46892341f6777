"""The folder of a run: new, or that of a run to go on with."""

import contextlib
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import ml_collections

from experiments._lib.load_run import load_run_config
from keras_dml import training
from keras_dml._files import locked
from keras_dml._files import read_sealed_folder
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
        ValueError: if a run began there with other settings, or is to be extended and
            its checkpoints are gone.
        OSError: if the folder holds something else, or can't be made, or another
            program is writing a run there.
    """
    if folder.is_dir():
        with _held(folder):
            pass
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
        has_results = any((folder / name).exists() for name in _RESULTS)
        if has_results and not _has_checkpoint(folder):
            raise ValueError(
                f"--extend: {str(folder)!r} holds a finished run and no undamaged "
                "checkpoint to go on from. Name another folder to train anew."
            )
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


def _has_checkpoint(folder):
    for checkpoint in (folder / CHECKPOINTS).glob("step-*"):
        with contextlib.suppress(OSError, ValueError):
            read_sealed_folder(checkpoint)
            return True
    return False


@contextlib.contextmanager
def _held(folder):
    try:
        with locked(folder):
            yield
    except BlockingIOError:
        raise BlockingIOError(
            f"--output_dir={str(folder)!r} is being written by another program. Wait "
            "for its end, or name another folder."
        ) from None


@contextlib.contextmanager
def open_run_folder(
    folder: pathlib.Path, config: ml_collections.ConfigDict
) -> Iterator[None]:
    """Makes the folder of a run, or takes that of one that `is_finished` has checked.

    No other program can open the folder until the block ends.

    Raises:
        OSError: if another program is writing a run there, or nothing can be written.
    """
    if not (folder / "config.json").is_file():
        training.new_run_directory(folder)
    with _held(folder):
        remove_unfinished(folder)
        settings = folder / "config.json"
        if not settings.is_file():
            write_json(settings, config.to_dict())
        yield


def extend_run(folder: pathlib.Path, config: ml_collections.ConfigDict) -> None:
    """Removes what a run wrote at its end if it is to be extended.

    Call it when all else has been checked: a run that can't go on keeps its results.
    """
    if load_run_config(folder) == _as_json(config):
        return
    for name in _RESULTS:
        (folder / name).unlink(missing_ok=True)
    for name in _RESULT_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    write_json(folder / "config.json", config.to_dict())


def _as_json(config: ml_collections.ConfigDict) -> dict[str, Any]:
    return json.loads(json.dumps(config.to_dict()))
