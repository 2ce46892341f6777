"""The zip archives that PyTorch keeps weights in."""

import functools
import io
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dml.models._checkpoints.stored_numbers import item_size
from keras_dml.models._checkpoints.stored_numbers import stored_numbers
from keras_dml.models._checkpoints.torch_pickle import SAVE_ANEW
from keras_dml.models._checkpoints.torch_pickle import StorageRecord
from keras_dml.models._checkpoints.torch_pickle import read_torch_pickle

_ZIP_ERRORS = (
    zipfile.BadZipFile,
    RuntimeError,  # it says that it is encrypted, or of a version unknown
    EOFError,
    OSError,
    OverflowError,
    ValueError,
    struct.error,
)
_STORED = zipfile.ZIP_STORED


def read_torch_zip(
    content: bytes,
) -> tuple[Any, Callable[[StorageRecord], np.ndarray]]:
    """Reads the zip archive that torch.save writes since PyTorch 1.6.

    Returns:
        What is pickled in it, as `read_torch_pickle` gives it, and a function from the
        storages that it refers to to their numbers.

    Raises:
        ValueError: if the archive is damaged, compressed, or not one of torch.save's.

    Reference:
        `_save` in PyTorch's `torch/serialization.py`.
    """
    archive, names = _open_zip(content)
    pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError(
            "it is a zip archive that torch.save has not written: it has "
            f"{len(pickles)} files called data.pkl, not one. {SAVE_ANEW}"
        )
    root = pickles[0].removesuffix("data.pkl")
    if any(
        name == f"{root}constants.pkl" or name.startswith(f"{root}code/")
        for name in names
    ):
        raise ValueError(
            "it is a TorchScript program. Save the weights alone: "
            "torch.save(torch.jit.load(file).state_dict(), other_file)."
        )
    order = b"little"
    if f"{root}byteorder" in names:
        order = _read_member(archive, f"{root}byteorder")
    if order not in (b"little", b"big"):
        raise ValueError(f"its byte order is neither little nor big. {SAVE_ANEW}")
    checkpoint, _ = read_torch_pickle(io.BytesIO(_read_member(archive, pickles[0])))

    @functools.cache
    def numbers(storage):
        name = f"{root}data/{storage.key}"
        if name not in names:
            raise ValueError(f"it lacks its storage {name!r}. {SAVE_ANEW}")
        data = _read_member(archive, name)
        if len(data) != storage.count * item_size(storage.dtype):
            raise ValueError(
                f"its storage {name!r} has {len(data)} bytes, not "
                f"{storage.count} numbers of {storage.dtype}. {SAVE_ANEW}"
            )
        return stored_numbers(data, storage.dtype, order.decode())

    return checkpoint, numbers


def _open_zip(content):
    try:
        # In memory, so that a wrong length can't make a read allocate.
        archive = zipfile.ZipFile(io.BytesIO(content))
    except _ZIP_ERRORS as error:
        raise ValueError(
            f"its zip archive is cut off or damaged ({error}). {SAVE_ANEW}"
        ) from error
    stored = [one for one in archive.infolist() if one.compress_type == _STORED]
    if sum(member.file_size for member in stored) > len(content):
        raise ValueError(
            f"its zip archive claims more bytes than the file has. {SAVE_ANEW}"
        )
    return archive, set(archive.namelist())


def _read_member(archive, name):
    if archive.getinfo(name).compress_type != _STORED:
        raise ValueError(
            f"{name!r} in its zip archive is compressed, which torch.save never does. "
            "Save it again with torch.save(model.state_dict(), file)."
        )
    try:
        return archive.read(name)
    except _ZIP_ERRORS as error:
        raise ValueError(
            f"{name!r} in its zip archive is damaged ({error}). {SAVE_ANEW}"
        ) from error
