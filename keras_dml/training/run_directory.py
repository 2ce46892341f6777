"""The folder that a training run writes, and its log of the epochs."""

import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_dml._files import check_new_folder
from keras_dml._files import remove_unfinished


def check_run_directory(folder: str | os.PathLike) -> None:
    """Raises an error if a folder can't be that of a new run, without creating it.

    Args:
        folder: a path that does not exist yet, or an empty folder.

    Raises:
        ValueError: if it is empty text.
        FileExistsError: if the folder is not empty; a run does not write among the
            files of another.
        OSError: if nothing can be made there, such as `NotADirectoryError` where a file
            is in the way.
    """
    if not os.fspath(folder):
        raise ValueError("folder must be a path; got ''.")
    folder = pathlib.Path(folder)
    if folder.is_dir():
        remove_unfinished(folder)
        if any(folder.iterdir()):
            raise FileExistsError(
                f"folder={str(folder)!r} is not empty. Name another, or delete it."
            )
    else:
        check_new_folder(folder, "folder")


def new_run_directory(folder: str | os.PathLike) -> pathlib.Path:
    """Creates the folder of a run.

    Args:
        folder: a path that does not exist yet, or an empty folder; parents are created.

    Returns:
        Its path.

    Raises:
        ValueError, OSError: as `check_run_directory` does.

    Example:
        >>> new_run_directory("runs/first").name
        'first'
    """
    check_run_directory(folder)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class EpochLog(keras.callbacks.CSVLogger):
    """Keras's `CSVLogger` with given columns, and a row for the untrained model.

    `CSVLogger` takes its columns from the logs of the first epoch, and where none of
    them begins with "val_" it adds an empty "val_" column for each. It counts epochs
    from 0; here they are counted from 1, as the progress bar does.

    Args:
        file: the CSV file, which is overwritten.
        columns: the logs to write, after "epoch".
        untrained: figures measured before training, by column: the row of epoch 0,
            written with that of the first epoch.

    Example:
        >>> log = EpochLog("log.csv", ["loss"])
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=3, image_size=28
        ... )
        >>> history = model.fit(batches, verbose=0, callbacks=[log])
        >>> print(pathlib.Path("log.csv").read_text())
        epoch,loss
        1,...
    """

    def __init__(
        self,
        file: str | os.PathLike,
        columns: Sequence[str],
        untrained: Mapping[str, float] | None = None,
    ):
        super().__init__(str(file))
        self.columns = list(columns)
        self.untrained = untrained

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Opens the file and sets the columns."""
        super().on_train_begin(logs)
        self.keys = list(self.columns)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the row of the epoch, and before the first that of the untrained."""
        if epoch == 0 and self.untrained is not None:
            super().on_epoch_end(0, self.untrained)
        super().on_epoch_end(epoch + 1, logs)
