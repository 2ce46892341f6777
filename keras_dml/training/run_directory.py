"""The folder that a training run writes."""

import os
import pathlib
from collections.abc import Sequence

import keras


def check_run_directory(folder: str | os.PathLike) -> None:
    """Refuses a folder that a run can't have for its own; makes nothing.

    Raises:
        FileExistsError: if the folder holds something already; a run never mixes with
            another's files.
        NotADirectoryError: if a file is in the way.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"output_dir {str(folder)!r} is a file.")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(
            f"output_dir {str(folder)!r} is not empty. Name another, or delete it."
        )
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    if not parent.is_dir():
        raise NotADirectoryError(f"output_dir {str(folder)!r}: {parent} is a file.")


def new_run_directory(folder: str | os.PathLike) -> pathlib.Path:
    """Makes the folder of a run, after `check_run_directory`."""
    check_run_directory(folder)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class EpochLog(keras.callbacks.CSVLogger):
    """Keras's `CSVLogger` with named columns.

    `CSVLogger` takes its columns from the first epoch, and where none of them begins
    with "val_" it adds an empty "val_" column for each.

    Args:
        file: the CSV file, written anew.
        columns: the logs to write, after "epoch".
    """

    def __init__(self, file: str | os.PathLike, columns: Sequence[str]):
        """Takes the file and the columns."""
        super().__init__(str(file))
        self.columns = list(columns)

    def on_train_begin(self, logs=None):
        """Opens the file."""
        super().on_train_begin(logs)
        self.keys = list(self.columns)
