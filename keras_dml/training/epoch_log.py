"""The CSV file with a row an epoch."""

import os
from collections.abc import Sequence

import keras


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
