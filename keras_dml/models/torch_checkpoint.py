"""PyTorch's checkpoints, read without PyTorch."""

import io
import math
import os
import pathlib
import struct
import zipfile

import numpy as np

from keras_dml.models.torch_pickle import TensorRecord
from keras_dml.models.torch_pickle import read_torch_pickle

_ZIP_START = b"PK\x03\x04"
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    RuntimeError,  # it says that it is encrypted, or of a version unknown
    EOFError,
    OSError,
    OverflowError,
    ValueError,
    struct.error,
)
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_START = b"\x80\x02\x8a\x0a" + _LEGACY_MAGIC.to_bytes(10, "little")
_LEGACY_PROTOCOL = 1001
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
_WRAPPERS = ("state_dict", "model")
_DATA_PARALLEL = "module."
_SAVE_ANEW = "Download it again, or save it again with torch.save(model.state_dict())."


def read_torch_checkpoint(file: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the tensors of a PyTorch checkpoint; nothing in it is run.

    Three formats are told apart by their first bytes: the zip archive that torch.save
    writes since PyTorch 1.6, the pickles that it wrote before, and safetensors.
    `torch_pickle` says why reading a pickle is safe here. What a file claims is
    checked against what it has: a tensor lies within its storage and is no larger,
    a storage is as long as the pickle says, and nothing is decompressed. So memory
    stays within a few times the file's size.

    The state dict may lie under the key "state_dict" or "model" of the checkpoint.
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
            return _without_wrappers(*_read_zip(content))
        if content.startswith(_LEGACY_START):
            return _without_wrappers(*_read_legacy(content))
        if content[8:9] == b"{":
            return _read_safetensors(content)
        raise ValueError(
            "it is no PyTorch checkpoint: a file of torch.save or safetensors starts "
            f"otherwise than {content[:8]!r}. {_SAVE_ANEW}"
        )
    except ValueError as error:
        raise ValueError(f"checkpoint {str(file)!r}: {error}") from error


def _read_zip(content):
    """The pickled object, and a function from storage records to numbers."""
    archive, names = _open_zip(content)
    pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError(
            "it is a zip archive that torch.save has not written: it has "
            f"{len(pickles)} files called data.pkl, not one. {_SAVE_ANEW}"
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
    order = "little"
    if f"{root}byteorder" in names:
        order = _read_member(archive, f"{root}byteorder").decode("ascii")
    if order not in ("little", "big"):
        raise ValueError(f"its byte order is neither little nor big. {_SAVE_ANEW}")
    checkpoint, _ = read_torch_pickle(io.BytesIO(_read_member(archive, pickles[0])))
    found = {}

    def numbers(storage):
        if storage not in found:
            name = f"{root}data/{storage.key}"
            if name not in names:
                raise ValueError(f"it lacks its storage {name!r}. {_SAVE_ANEW}")
            data = _read_member(archive, name)
            if len(data) != storage.count * _item_size(storage.dtype):
                raise ValueError(
                    f"its storage {name!r} has {len(data)} bytes, not "
                    f"{storage.count} numbers of {storage.dtype}. {_SAVE_ANEW}"
                )
            found[storage] = _numbers(data, storage.dtype, order)
        return found[storage]

    return checkpoint, numbers


def _open_zip(content):
    try:
        # In memory, so that a wrong length can't make a read allocate.
        archive = zipfile.ZipFile(io.BytesIO(content))
    except _ZIP_ERRORS as error:
        raise ValueError(
            f"its zip archive is cut off or damaged ({error}). {_SAVE_ANEW}"
        ) from error
    members = archive.infolist()
    if sum(member.file_size for member in members) > len(content):
        raise ValueError(
            f"its zip archive claims more bytes than the file has. {_SAVE_ANEW}"
        )
    return archive, set(archive.namelist())


def _read_member(archive, name):
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(
            f"{name!r} in its zip archive is compressed, which torch.save never does. "
            "Save it again with torch.save(model.state_dict())."
        )
    try:
        return archive.read(name)
    except _ZIP_ERRORS as error:
        raise ValueError(
            f"{name!r} in its zip archive is damaged ({error}). {_SAVE_ANEW}"
        ) from error


def _read_legacy(content):
    """The pickled object, and a function from storage records to numbers."""
    stream = io.BytesIO(content)
    read_torch_pickle(stream)  # the magic number, already seen
    protocol, _ = read_torch_pickle(stream)
    if protocol != _LEGACY_PROTOCOL:
        raise ValueError(
            f"its protocol is not {_LEGACY_PROTOCOL}, the only one of PyTorch's "
            f"old format. {_SAVE_ANEW}"
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
            f"its list of storages is not that of its tensors. {_SAVE_ANEW}"
        )
    found = {}
    view = memoryview(content)
    position = stream.tell()
    for storage in map(storages.get, keys):
        count = int.from_bytes(view[position : position + 8], "little")
        end = position + 8 + count * _item_size(storage.dtype)
        if count != storage.count or end > len(content):
            raise ValueError(
                f"it is cut off or damaged at byte {position}, where its storage "
                f"{storage.key!r} starts. {_SAVE_ANEW}"
            )
        found[storage] = view[position + 8 : end]
        position = end
    # The old format is little-endian on every machine.
    return checkpoint, lambda storage: _numbers(found[storage], storage.dtype, "little")


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
        numbers = _numbers(entry["data"], dtype, "little")
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
            f"reaches beyond its storage of {len(numbers)} numbers. {_SAVE_ANEW}"
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
            f"its tensor {name!r} has size {size}, which no array can have. "
            f"{_SAVE_ANEW}"
        ) from error


def _numbers(data, dtype, order):
    """Bytes as a read-only vector of the machine's byte order."""
    order = "<" if order == "little" else ">"
    if dtype == "bfloat16":  # the upper half of a float32
        upper = np.frombuffer(data, f"{order}u2").astype(np.uint32)
        numbers = (upper << 16).view(np.float32)
    elif dtype == "bool":
        numbers = np.frombuffer(data, np.uint8) != 0
    else:
        numbers = np.frombuffer(data, np.dtype(dtype).newbyteorder(order))
        numbers = numbers.astype(dtype, copy=False)
    numbers.flags.writeable = False
    return numbers


def _item_size(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
