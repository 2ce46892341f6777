"""The format in which PyTorch kept weights before 1.6."""

import functools
import io
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dml.models._checkpoints.stored_numbers import item_size
from keras_dml.models._checkpoints.stored_numbers import stored_numbers
from keras_dml.models._checkpoints.torch_pickle import SAVE_ANEW
from keras_dml.models._checkpoints.torch_pickle import StorageRecord
from keras_dml.models._checkpoints.torch_pickle import read_torch_pickle

LEGACY_START = b"\x80\x02\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
"""How such a file begins: the pickle, in protocol 2, of PyTorch's magic number."""

_PROTOCOL = 1001


def read_torch_legacy(
    content: bytes,
) -> tuple[Any, Callable[[StorageRecord], np.ndarray]]:
    """Reads the format that torch.save wrote before PyTorch 1.6.

    Four pickles (a magic number, the protocol, integer sizes, the checkpoint), one more
    with the keys of the storages, then each storage: a 64-bit count and its numbers.

    Returns:
        What is pickled in it, as `read_torch_pickle` gives it, and a function from the
        storages that it refers to to their numbers.

    Raises:
        ValueError: if the file is cut off or damaged.

    Reference:
        `_legacy_save` in PyTorch's `torch/serialization.py`.
    """
    stream = io.BytesIO(content)
    read_torch_pickle(stream)  # the magic number, already seen
    protocol, _ = read_torch_pickle(stream)
    if protocol != _PROTOCOL:
        raise ValueError(
            f"its protocol is not {_PROTOCOL}, the only one of PyTorch's "
            f"old format. {SAVE_ANEW}"
        )
    read_torch_pickle(stream)  # the system's integer sizes, unused by the format
    checkpoint, storages = read_torch_pickle(stream)
    keys, _ = read_torch_pickle(stream)
    if (
        not isinstance(keys, list)
        or not all(isinstance(key, str) for key in keys)
        or sorted(keys) != sorted(storages)
    ):
        raise ValueError(
            f"its list of storages is not that of its tensors. {SAVE_ANEW}"
        )
    found = {}
    view = memoryview(content)
    position = stream.tell()
    for storage in map(storages.get, keys):
        count = int.from_bytes(view[position : position + 8], "little")
        end = position + 8 + count * item_size(storage.dtype)
        if count != storage.count or end > len(content):
            raise ValueError(
                f"it is cut off or damaged at byte {position}, where its storage "
                f"{storage.key!r} starts. {SAVE_ANEW}"
            )
        found[storage] = view[position + 8 : end]
        position = end

    @functools.cache
    def numbers(storage):
        # The old format is little-endian on every machine.
        return stored_numbers(found[storage], storage.dtype, "little")

    return checkpoint, numbers
