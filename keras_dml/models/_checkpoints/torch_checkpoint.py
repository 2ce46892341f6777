"""PyTorch's checkpoints, read without PyTorch."""

import math
import os
import pathlib

import numpy as np

from keras_dml.models._checkpoints.stored_numbers import stored_numbers
from keras_dml.models._checkpoints.torch_legacy import LEGACY_START
from keras_dml.models._checkpoints.torch_legacy import read_torch_legacy
from keras_dml.models._checkpoints.torch_pickle import SAVE_ANEW
from keras_dml.models._checkpoints.torch_pickle import TensorRecord
from keras_dml.models._checkpoints.torch_zip import read_torch_zip

_ZIP_START = b"PK\x03\x04"
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
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_DATA_PARALLEL = "module."


def read_torch_checkpoint(file: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the tensors of a PyTorch checkpoint; nothing in it is run.

    Three formats are told apart by their first bytes: the zip archive that torch.save
    writes since PyTorch 1.6, the pickles that it wrote before, and safetensors.
    `torch_pickle` says why reading a pickle is safe here. What a file claims is
    checked against what it has: a tensor lies within its storage and is no larger,
    a storage is as long as the pickle says, and nothing is decompressed. So memory
    stays within a few times the file's size.

    The state dict may lie under the key "state_dict", "model_state_dict" (the one of
    PyTorch's own tutorial) or "model" of the checkpoint.
    Whatever beside the tensors is a number, a string, None or a container is passed
    over, and so is the "module." that DataParallel puts before every name.

    Args:
        file: a `.pth`, `.pt`, `.bin` or `.safetensors` file, whatever its name.

    Returns:
        {name: array} in the file's order, read-only, with the tensor's shape and dtype
        (bfloat16, which NumPy has not, as float32). Tensors that share a storage share
        their memory.

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
        if content.startswith(_ZIP_START):
            return _without_wrappers(*read_torch_zip(content))
        if content.startswith(LEGACY_START):
            return _without_wrappers(*read_torch_legacy(content))
        if content[8:9] == b"{":
            return _read_safetensors(content)
        raise ValueError(
            "it is no PyTorch checkpoint: a file of torch.save or safetensors starts "
            f"otherwise than {content[:8]!r}. {SAVE_ANEW}"
        )
    except ValueError as error:
        raise ValueError(f"checkpoint {str(file)!r}: {error}") from error


def _read_safetensors(content):
    try:
        import safetensors
    except ImportError as error:
        raise ImportError(
            "reading a .safetensors file needs safetensors: pip install safetensors"
        ) from error
    try:
        entries = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"it is no whole safetensors file ({error}). Download it again, or save "
            "it again with safetensors.torch.save_file."
        ) from error
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in _SAFETENSORS_DTYPES:
            raise ValueError(
                f"its tensor {name!r} is of dtype {entry['dtype']}; those read are "
                f"{', '.join(_SAFETENSORS_DTYPES)}. Convert it with tensor.float()."
            )
        dtype = _SAFETENSORS_DTYPES[entry["dtype"]]
        numbers = stored_numbers(entry["data"], dtype, "little")
        tensors[name] = numbers.reshape(entry["shape"])
    return _without_module(tensors)


def _without_wrappers(checkpoint, numbers_of):
    """The arrays of the state dict that is the checkpoint, or lies in it."""
    candidates = [checkpoint]
    if isinstance(checkpoint, dict):
        candidates = [*map(checkpoint.get, _WRAPPERS), checkpoint]
    for candidate in candidates:
        if not isinstance(candidate, dict):
            continue
        tensors = {
            name: value
            for name, value in candidate.items()
            if isinstance(name, str) and isinstance(value, TensorRecord)
        }
        if tensors:
            return _without_module(
                {
                    name: _array(name, tensor, numbers_of(tensor.storage))
                    for name, tensor in tensors.items()
                }
            )
    raise ValueError(
        "it holds no dictionary of named tensors, nor one under "
        f"{' or '.join(map(repr, _WRAPPERS))}. Save it as "
        "torch.save(model.state_dict(), file)."
    )


def _without_module(tensors):
    """The tensors without the prefix that torch.nn.DataParallel gives them all."""
    if not all(name.startswith(_DATA_PARALLEL) for name in tensors):
        return tensors
    return {
        name.removeprefix(_DATA_PARALLEL): tensor for name, tensor in tensors.items()
    }


def _array(name, tensor, numbers):
    """The tensor as a view of its storage's numbers, checked to lie within."""
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
            f"reaches beyond its storage of {len(numbers)} numbers. {SAVE_ANEW}"
        )
    # The stride of an axis of one can be anything, and an empty tensor's too.
    steps = [
        step * numbers.itemsize if n > 1 and elements else 0
        for n, step in zip(size, stride, strict=True)
    ]
    start = numbers[offset if elements else 0 :]
    try:
        return np.lib.stride_tricks.as_strided(start, size, steps, writeable=False)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"its tensor {name!r} has size {size}, which no array can have. {SAVE_ANEW}"
        ) from error
