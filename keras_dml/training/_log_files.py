"""The files that callbacks log to, cut back to what they held at a checkpoint."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import keras


def log_sizes(
    callbacks: Sequence[keras.callbacks.Callback], at_start: bool = False
) -> list[Any]:
    """The size of each callback's log files, with all that it has logged.

    Args:
        callbacks: those of `fit`.
        at_start: before `fit`, when a `CSVLogger` that is not to append has no file
            yet, as it overwrites that of an earlier training.

    Returns:
        One a callback, for JSON: None for a callback without logs, and the sizes in
        bytes by path, relative to the folder of the logs, for others.
    """
    sizes: list[Any] = []
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.TensorBoard):
            for writer in callback._writers.values():
                writer.flush()
        folder, files = _log_files(callback)
        if at_start and not getattr(callback, "append", True):
            files = []
        sizes.append(
            None
            if folder is None
            else {str(file.relative_to(folder)): file.stat().st_size for file in files}
        )
    return sizes


def cut_logs(
    callbacks: Sequence[keras.callbacks.Callback], sizes: Sequence[Any]
) -> None:
    """Removes what was logged after `log_sizes`, and lets callbacks add to the rest.

    Args:
        callbacks: those that are to go on, before `fit`.
        sizes: what `log_sizes` gave for the same callbacks, before.

    Raises:
        OSError: if a file can't be cut.
    """
    for callback, before in zip(callbacks, sizes, strict=True):
        folder, files = _log_files(callback)
        for file in files:
            size = before.get(str(file.relative_to(folder)))
            if size is None:
                file.unlink()
            elif size < file.stat().st_size:
                os.truncate(file, size)
        if isinstance(callback, keras.callbacks.CSVLogger):
            callback.append = callback.append or bool(before)


def _log_files(callback):
    """Gives (the folder that log files are in or None, the files that are there)."""
    if isinstance(callback, keras.callbacks.CSVLogger):
        file = pathlib.Path(callback.filename)
        return file.parent, [file] if file.is_file() else []
    if isinstance(callback, keras.callbacks.TensorBoard):
        folder = pathlib.Path(callback.log_dir)
        return folder, sorted(folder.glob("*/events.out.tfevents.*"))
    return None, []
