"""Checkpoints: all that a run goes on from, in folders that are whole or not there.

A checkpoint is a sealed folder (`_files.py`) named by its step. Its record holds what
is JSON, and one file the arrays, as plain bytes: no pickle, no code. The record has
every array's dtype and shape, and the checksums show damage. The newest that is
undamaged counts, so one before it is always kept.
"""

import pathlib
import shutil
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import ml_dtypes  # noqa: F401 - lets NumPy know "bfloat16" by its name
import numpy as np

from keras_dml._files import read_sealed_folder
from keras_dml._files import write_sealed_folder

_ARRAYS = "arrays.bin"
_DAMAGE = OSError, ValueError, KeyError, TypeError


def write_checkpoint(
    folder: pathlib.Path,
    step: int,
    state: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    keep: int,
) -> None:
    """Writes a checkpoint, then removes all but the newest.

    Args:
        folder: the folder of all checkpoints; made if necessary.
        step: names the checkpoint; one of the same step is replaced.
        state: what `json.dumps` takes.
        arrays: of any dtype but object.
        keep: how many checkpoints stay, 2 or more.

    Raises:
        OSError: if it can't be written; the earlier checkpoints are as they were.
    """
    described = [
        {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
        for name, array in arrays.items()
    ]

    def write_files(unfinished):
        with open(unfinished / _ARRAYS, "wb") as file:
            for array in arrays.values():
                file.write(np.ascontiguousarray(array).tobytes())

    new = folder / f"step-{step:012d}"
    if new.exists():
        shutil.rmtree(new)
    record = {"state": dict(state), "arrays": described}
    write_sealed_folder(new, record, write_files)
    for old in _oldest_first(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def read_newest_checkpoint(
    folder: pathlib.Path, report: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Reads the newest checkpoint that is not damaged.

    Args:
        folder: the folder of all checkpoints, which may be missing.
        report: is called with a sentence about each damaged one.

    Returns:
        (state, arrays) as they were written; None if there is no checkpoint.

    Raises:
        ValueError: if there are checkpoints and all are damaged.
    """
    for checkpoint in reversed(_oldest_first(folder)):
        try:
            return _read_checkpoint(checkpoint)
        except _DAMAGE as error:
            report(f"checkpoint {checkpoint} is damaged and left out: {error}")
    if _oldest_first(folder):
        raise ValueError(
            f"all checkpoints in {str(folder)!r} are damaged. Delete that folder to "
            "start the run anew."
        )
    return None


def newest_checkpoint(folder: pathlib.Path) -> pathlib.Path | None:
    """Gives the path of the newest checkpoint that is not damaged, or None."""
    for checkpoint in reversed(_oldest_first(folder)):
        try:
            _read_checkpoint(checkpoint)
        except _DAMAGE:
            continue
        return checkpoint
    return None


def _oldest_first(folder):
    return sorted(folder.glob("step-*"))


def _read_checkpoint(checkpoint):
    record = read_sealed_folder(checkpoint)
    return record["state"], _read_arrays(checkpoint, record["arrays"])


def _read_arrays(checkpoint, described):
    content = np.fromfile(checkpoint / _ARRAYS, np.uint8)
    arrays, start = {}, 0
    for one in described:
        dtype, shape = np.dtype(one["dtype"]), tuple(one["shape"])
        end = start + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        arrays[one["name"]] = content[start:end].view(dtype).reshape(shape)
        start = end
    return arrays
