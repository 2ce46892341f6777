"""The tensors of a PyTorch checkpoint, read without PyTorch."""

import math
import os
import pathlib

import numpy as np

from keras_dml._ops import import_extra
from keras_dml.models._checkpoints.torch_pickle import SAVE_AGAIN
from keras_dml.models._checkpoints.torch_pickle import TensorRecord
from keras_dml.models._checkpoints.torch_save_formats import LEGACY_START
from keras_dml.models._checkpoints.torch_save_formats import ZIP_START
from keras_dml.models._checkpoints.torch_save_formats import read_torch_legacy
from keras_dml.models._checkpoints.torch_save_formats import read_torch_zip
from keras_dml.models._checkpoints.torch_save_formats import stored_numbers

_SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}

# The keys under which a checkpoint may hold its state dict.
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")

# What torch.nn.DataParallel puts before every name.
_DATA_PARALLEL_PREFIX = "module."


def read_torch_checkpoint(file: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the tensors of a PyTorch checkpoint without running anything in it.

    Three formats are told apart by their first bytes: the zip archive that torch.save
    writes since PyTorch 1.6, the pickles that it wrote before, and safetensors.
    `torch_pickle.py` says why reading a pickle is safe here. What a file claims is
    checked against what it has: a tensor lies within its storage and is no larger,
    a storage is as long as the pickle says, and nothing is decompressed. So memory
    stays within a few times the size of the file.

    The state dict may lie under the key "state_dict", "model_state_dict" (the one of
    PyTorch's own tutorial) or "model" of the checkpoint. Numbers, strings, None and
    containers beside the tensors are ignored. The "module." that
    `torch.nn.DataParallel` puts before every name is removed.

    Args:
        file: what is in a `.pth`, `.pt`, `.bin` or `.safetensors` file, under any name.

    Returns:
        {name: array} in the file's order, read-only, with the tensor's shape and dtype
        (bfloat16, which NumPy does not have, as float32). Tensors that share a storage
        share their memory.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is of another format, damaged, or holds more than
            tensors.
        ImportError: if it is a safetensors file and safetensors is not installed.

    Reference:
        `torch/serialization.py` and [safetensors](
        https://huggingface.co/docs/safetensors/index#format).
    """
    path = pathlib.Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint file {str(file)!r}.")
    content = path.read_bytes()
    try:
        if content.startswith(ZIP_START):
            return _state_dict_arrays(*read_torch_zip(content))
        if content.startswith(LEGACY_START):
            return _state_dict_arrays(*read_torch_legacy(content))
        if content[8:9] == b"{":
            return _read_safetensors(content)
        raise ValueError(
            f"it is not a PyTorch checkpoint: it starts with {content[:8]!r}, as no "
            f"file of torch.save or safetensors does. {SAVE_AGAIN}"
        )
    except ValueError as error:
        raise ValueError(f"checkpoint {str(file)!r}: {error}") from error


def _read_safetensors(content):
    safetensors = import_extra(
        "safetensors", "reading a .safetensors file", "safetensors"
    )
    try:
        entries = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"it is a damaged or incomplete safetensors file ({error}). Download it "
            "again, or save it again with safetensors.torch.save_file."
        ) from error
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _SAFETENSORS_DTYPES:
            raise ValueError(
                f"its tensor {name!r} is of dtype {entry['dtype']}, which is not one "
                f"of {', '.join(_SAFETENSORS_DTYPES)}. Convert it with tensor.float()."
            )
        dtype = _SAFETENSORS_DTYPES[entry["dtype"]]
        numbers = stored_numbers(entry["data"], dtype, "little")
        tensors[name] = numbers.reshape(entry["shape"])
    return _without_data_parallel_prefix(tensors)


def _state_dict_arrays(checkpoint, numbers_of):
    """The arrays of the state dict that the checkpoint is, or holds under a key."""
    candidates = [checkpoint]
    if isinstance(checkpoint, dict):
        candidates = [*map(checkpoint.get, _STATE_DICT_KEYS), checkpoint]
    for candidate in candidates:
        if not isinstance(candidate, dict):
            continue
        tensors = {
            name: value
            for name, value in candidate.items()
            if isinstance(name, str) and isinstance(value, TensorRecord)
        }
        if tensors:
            return _without_data_parallel_prefix(
                {
                    name: _array(name, tensor, numbers_of(tensor.storage))
                    for name, tensor in tensors.items()
                }
            )
    raise ValueError(
        "it holds no dictionary of named tensors, nor one under "
        f"{' or '.join(map(repr, _STATE_DICT_KEYS))}. Save it as "
        "torch.save(model.state_dict(), file)."
    )


def _without_data_parallel_prefix(tensors):
    """The tensors, without `_DATA_PARALLEL_PREFIX` where every name has it."""
    if not all(name.startswith(_DATA_PARALLEL_PREFIX) for name in tensors):
        return tensors
    return {
        name.removeprefix(_DATA_PARALLEL_PREFIX): tensor
        for name, tensor in tensors.items()
    }


def _array(name, tensor, numbers):
    """The tensor as a view of the numbers of its storage, checked to lie within."""
    offset, size, stride = tensor[1:]
    elements = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=False))
    if (
        len(size) != len(stride)
        or min((offset, *size, *stride)) < 0
        or elements > len(numbers)
        or (elements > 0 and last >= len(numbers))
    ):
        raise ValueError(
            f"its tensor {name!r} of size {size}, stride {stride} and offset {offset} "
            f"reaches beyond its storage of {len(numbers)} numbers. {SAVE_AGAIN}"
        )
    # PyTorch may store any stride for an axis of length 1 or an empty tensor.
    steps = [
        step * numbers.itemsize if n > 1 and elements else 0
        for n, step in zip(size, stride, strict=True)
    ]
    start = numbers[offset if elements else 0 :]
    try:
        return np.lib.stride_tricks.as_strided(start, size, steps, writeable=False)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"its tensor {name!r} has size {size}, too large for an array. {SAVE_AGAIN}"
        ) from error
