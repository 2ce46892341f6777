"""The two formats of `torch.save`, and the numbers of the storages in them.

Both keep the checkpoint as a pickle, in which a tensor only names its storage, and the
storages as plain numbers beside it: since PyTorch 1.6 as the members of a zip archive,
before that one after the other in one file.
"""

import functools
import io
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dml.models._checkpoints.torch_pickle import SAVE_AGAIN
from keras_dml.models._checkpoints.torch_pickle import StorageRecord
from keras_dml.models._checkpoints.torch_pickle import read_torch_pickle

ZIP_START = b"PK\x03\x04"
"""How a zip archive begins."""

LEGACY_START = b"\x80\x02\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
"""How the format before 1.6 begins: PyTorch's magic number, pickled in protocol 2."""

_LEGACY_PROTOCOL = 1001

_ZIP_ERRORS = (
    zipfile.BadZipFile,
    RuntimeError,  # encrypted, or a version of zip that zipfile does not know
    EOFError,
    OSError,
    OverflowError,
    ValueError,
    struct.error,
)


def read_torch_zip(
    content: bytes,
) -> tuple[Any, Callable[[StorageRecord], np.ndarray]]:
    """Reads the zip archive that torch.save writes since PyTorch 1.6.

    Args:
        content: the whole file.

    Returns:
        The pickled checkpoint, as `read_torch_pickle` returns it, and a function from
        a storage in it to the storage's numbers.

    Raises:
        ValueError: if the archive is damaged, compressed, or not one of torch.save's.

    Reference:
        `_save` in PyTorch's `torch/serialization.py`.
    """
    archive, names = _open_zip(content)
    pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError(
            "it is a zip archive, but not one of torch.save: it has "
            f"{len(pickles)} files named data.pkl, not one. {SAVE_AGAIN}"
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
        raise ValueError(f"its byte order is neither little nor big. {SAVE_AGAIN}")
    checkpoint, _ = read_torch_pickle(io.BytesIO(_read_member(archive, pickles[0])))

    @functools.cache
    def numbers(storage):
        name = f"{root}data/{storage.key}"
        if name not in names:
            raise ValueError(f"it lacks its storage {name!r}. {SAVE_AGAIN}")
        data = _read_member(archive, name)
        if len(data) != storage.length * _item_size(storage.dtype):
            raise ValueError(
                f"its storage {name!r} has {len(data)} bytes, not "
                f"{storage.length} numbers of {storage.dtype}. {SAVE_AGAIN}"
            )
        return stored_numbers(data, storage.dtype, order.decode())

    return checkpoint, numbers


def read_torch_legacy(
    content: bytes,
) -> tuple[Any, Callable[[StorageRecord], np.ndarray]]:
    """Reads the format that torch.save wrote before PyTorch 1.6.

    Four pickles (a magic number, the protocol, integer sizes, the checkpoint), one more
    with the keys of the storages, then each storage: a 64-bit count and its numbers.

    Args:
        content: the whole file, which begins with `LEGACY_START`.

    Returns:
        The same as `read_torch_zip`.

    Raises:
        ValueError: if the file is cut off or damaged.

    Reference:
        `_legacy_save` in PyTorch's `torch/serialization.py`.
    """
    stream = io.BytesIO(content)
    read_torch_pickle(stream)  # the magic number, which LEGACY_START has compared
    protocol, _ = read_torch_pickle(stream)
    if protocol != _LEGACY_PROTOCOL:
        raise ValueError(
            f"its protocol is not {_LEGACY_PROTOCOL}, the only one of PyTorch's "
            f"old format. {SAVE_AGAIN}"
        )
    read_torch_pickle(stream)  # the system's integer sizes, which the format ignores
    checkpoint, storages = read_torch_pickle(stream)
    keys, _ = read_torch_pickle(stream)
    if (
        not isinstance(keys, list)
        or not all(isinstance(key, str) for key in keys)
        or sorted(keys) != sorted(storages)
    ):
        raise ValueError(
            f"its list of storages is not that of its tensors. {SAVE_AGAIN}"
        )
    stored = {}
    view = memoryview(content)
    position = stream.tell()
    for storage in map(storages.__getitem__, keys):
        count = int.from_bytes(view[position : position + 8], "little")
        end = position + 8 + count * _item_size(storage.dtype)
        if count != storage.length or end > len(content):
            raise ValueError(
                f"it is cut off or damaged at byte {position}, where its storage "
                f"{storage.key!r} starts. {SAVE_AGAIN}"
            )
        stored[storage] = view[position + 8 : end]
        position = end

    @functools.cache
    def numbers(storage):
        # The old format is little-endian on every machine.
        return stored_numbers(stored[storage], storage.dtype, "little")

    return checkpoint, numbers


def stored_numbers(data: Any, dtype: str, order: str) -> np.ndarray:
    """Turns the bytes of a storage into its numbers.

    Args:
        data: bytes or another buffer, a whole number of items.
        dtype: the name of a NumPy dtype, or "bfloat16".
        order: "little" or "big", the order of the bytes of an item.

    Returns:
        A read-only vector in the machine's own byte order; bfloat16, which NumPy does
        not have, as float32.
    """
    stored = np.dtype("uint16" if dtype == "bfloat16" else dtype)
    stored = stored.newbyteorder("<" if order == "little" else ">")
    if dtype == "bfloat16":  # the upper half of a float32
        upper = np.frombuffer(data, stored).astype(np.uint32)
        numbers = (upper << 16).view(np.float32)
    elif dtype == "bool":
        numbers = np.frombuffer(data, np.uint8) != 0
    else:
        numbers = np.frombuffer(data, stored).astype(dtype, copy=False)
    numbers.flags.writeable = False
    return numbers


def _item_size(dtype):
    """The bytes of one number, of the dtypes that `stored_numbers` takes."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _open_zip(content):
    """The archive and the names of its members."""
    try:
        # In memory, so that a wrong length can't make a read allocate.
        archive = zipfile.ZipFile(io.BytesIO(content))
    except _ZIP_ERRORS as error:
        raise ValueError(
            f"its zip archive is cut off or damaged ({error}). {SAVE_AGAIN}"
        ) from error
    sizes = [
        member.file_size
        for member in archive.infolist()
        if member.compress_type == zipfile.ZIP_STORED
    ]
    if sum(sizes) > len(content):
        raise ValueError(
            f"its zip archive claims more bytes than the file has. {SAVE_AGAIN}"
        )
    return archive, set(archive.namelist())


def _read_member(archive, name):
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(
            f"{name!r} in its zip archive is compressed, which torch.save never does. "
            "Save it again with torch.save(model.state_dict(), file)."
        )
    try:
        return archive.read(name)
    except _ZIP_ERRORS as error:
        raise ValueError(
            f"{name!r} in its zip archive is damaged ({error}). {SAVE_AGAIN}"
        ) from error
