"""The pickles in PyTorch's checkpoints, read without Python's unpickler."""

import io
import pickletools
from typing import Any
from typing import NamedTuple

SAVE_AGAIN = (
    "Download it again, or save it again with torch.save(model.state_dict(), file)."
)
"""What to do about an incomplete checkpoint, for error messages."""

_SAVE_WEIGHTS_ALONE = (
    "Save the weights alone: torch.save(model.state_dict(), file), or safetensors."
)
_MAX_AXES = 32  # NumPy's limit before 2.0

# {name in the pickle: dtype of the storage}.
_STORAGES = {
    "torch DoubleStorage": "float64",
    "torch FloatStorage": "float32",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
}
_ALLOWED_GLOBALS = {
    *_STORAGES,
    "collections OrderedDict",
    "torch._utils _rebuild_tensor",  # before PyTorch 0.4
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
}


class StorageRecord(NamedTuple):
    """A block of numbers that is stored outside the pickle.

    Attributes:
        dtype: the name of a NumPy dtype, or "bfloat16".
        key: the storage's name in the checkpoint.
        length: how many numbers it has, as the pickle says.
    """

    dtype: str
    key: str
    length: int


class TensorRecord(NamedTuple):
    """A tensor as a view of a storage, of which only the types have been checked.

    Attributes:
        storage: where its numbers are.
        offset: position of the first one in the storage, in numbers.
        size: the shape.
        stride: steps between neighbors along each axis, in numbers.
    """

    storage: StorageRecord
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Global(NamedTuple):
    """One of `_ALLOWED_GLOBALS`, "module name", which is never imported."""

    name: str


def read_torch_pickle(
    stream: io.BytesIO,
) -> tuple[Any, dict[str, StorageRecord]]:
    """Reads one pickle up to its end, to plain values and `TensorRecord`s.

    A pickle is a program, and Python's unpickler runs it: it imports what the pickle
    names and calls it. This function does neither. `pickletools.genops` splits the
    bytes into opcodes without running them; the opcodes handled here are those with
    which PyTorch writes weights (pickle protocol 2), and all others are refused. No
    opcode imports anything: a global is a string, compared with the few allowed ones,
    and any other is refused as soon as it is named. No opcode calls, or sets an
    attribute of, what a pickle holds: REDUCE turns the allowed names into the records
    above, which are immutable, and BUILD, which gives a state_dict its `_metadata`, is
    ignored. What comes out is made of None, bool, int, float, str, tuple, list, dict
    and records.

    Dictionary keys are None, numbers and strings, because hashing nested tuples can
    take forever. Memory is bounded by the length of the pickle.

    Args:
        stream: positioned at the start of the pickle, and left at its end. It is in
            memory, so that a wrong length can't make a read allocate.

    Returns:
        The pickled value, and {key: record} of the storages that it refers to. A
        container in the value may hold itself: don't print or traverse it blindly.

    Raises:
        ValueError: if the pickle names anything but tensors, or is damaged.

    Reference:
        The opcodes are described in Python's `pickletools`; what PyTorch writes with
        them is in its `torch/serialization.py` and `torch/_utils.py`.
    """
    try:
        return _run(stream)
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        # The stack was empty, or held values of the wrong type for an opcode.
        raise ValueError(f"its pickle is damaged. {SAVE_AGAIN}") from error


def _run(stream):
    stack, outer_stacks, memo, storages = [], [], {}, {}
    for opcode, argument, position in _opcodes(stream):
        match opcode.name:
            case "PROTO":
                if argument != 2:
                    raise ValueError(
                        f"it is pickled with protocol {argument}, where PyTorch "
                        f"writes 2. {_SAVE_WEIGHTS_ALONE}"
                    )
            case "STOP":
                return stack.pop(), storages
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case (
                "BININT"
                | "BININT1"
                | "BININT2"
                | "LONG1"
                | "BINFLOAT"
                | "BINUNICODE"
                | "BINSTRING"  # the str of Python 2
                | "SHORT_BINSTRING"
            ):
                stack.append(argument)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = int(opcode.name[-1])
                stack[-length:] = [tuple(stack[-length:])]
            case "MARK":
                outer_stacks.append(stack)
                stack = []
            case "TUPLE":
                items, stack = stack, outer_stacks.pop()
                stack.append(tuple(items))
            case "APPEND":
                item = stack.pop()
                _checked(stack[-1], list).append(item)
            case "APPENDS":
                items, stack = stack, outer_stacks.pop()
                _checked(stack[-1], list).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _checked(stack[-1], dict)[_key(key)] = value
            case "SETITEMS":
                items, stack = stack, outer_stacks.pop()
                pairs = zip(items[::2], items[1::2], strict=True)
                _checked(stack[-1], dict).update(_dict(pairs))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                if argument not in _ALLOWED_GLOBALS:
                    name = argument.replace(" ", ".")
                    raise ValueError(
                        f"it holds more than tensors: {name}, which is refused and "
                        f"was not run. {_SAVE_WEIGHTS_ALONE}"
                    )
                stack.append(_Global(argument))
            case "BINPERSID":
                storage = _storage(stack.pop())
                if storages.setdefault(storage.key, storage) != storage:
                    raise TypeError("one storage as two dtypes")
                stack.append(storage)
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_reduce(_checked(function, _Global).name, arguments))
            case "BUILD":
                stack.pop()
                _checked(stack[-1], dict)
            case _:
                raise ValueError(
                    f"its pickle has the opcode {opcode.name} at byte {position}, "
                    f"which PyTorch does not write weights with. {_SAVE_WEIGHTS_ALONE}"
                )


def _opcodes(stream):
    try:
        yield from pickletools.genops(stream)
    except ValueError as error:
        raise ValueError(
            f"its pickle is cut off or damaged ({error}). {SAVE_AGAIN}"
        ) from error


def _reduce(name, arguments):
    match name.rpartition(" ")[2], _checked(arguments, tuple):
        case "OrderedDict", ():
            return {}
        case "OrderedDict", (list() as pairs,):  # as Python 2 wrote it
            result = _dict(pairs)
            pairs.clear()  # or one list, used again and again, would fill the memory
            return result
        case "_rebuild_tensor", (storage, offset, size, stride):
            return _tensor(storage, offset, size, stride)
        case "_rebuild_tensor_v2", (storage, offset, size, stride, _, _):
            return _tensor(storage, offset, size, stride)
        case "_rebuild_tensor_v2", (storage, offset, size, stride, _, _, flags):
            if flags:
                raise ValueError(
                    "it has a tensor whose numbers are stored negated or conjugated. "
                    "Save tensor.resolve_neg().resolve_conj()."
                )
            return _tensor(storage, offset, size, stride)
        case "_rebuild_parameter", (TensorRecord() as tensor, _, _):
            return tensor
    raise TypeError(f"wrong arguments of {name}")


def _tensor(storage, offset, size, stride):
    for numbers in (size, stride):
        if len(_checked(numbers, tuple)) > _MAX_AXES:
            raise ValueError(
                f"it has a tensor of more than {_MAX_AXES} axes. {SAVE_AGAIN}"
            )
        if not all(type(number) is int for number in numbers):
            raise TypeError("a size or stride is not an integer")
    return TensorRecord(
        _checked(storage, StorageRecord), _checked(offset, int), size, stride
    )


def _storage(identifier):
    match identifier:
        case ("storage", _Global(name), str() as key, str(), int() as length):
            return StorageRecord(_STORAGES[name], key, length)
        case ("storage", _Global(name), str() as key, str(), int() as length, None):
            return StorageRecord(_STORAGES[name], key, length)
        case ("storage", _, _, _, _, tuple()):
            raise ValueError(
                "it has a view of a storage, which PyTorch before 0.4 wrote. "
                f"{_SAVE_WEIGHTS_ALONE}"
            )
        case ("module", *_):
            raise ValueError(
                f"it holds a whole module, with its code. {_SAVE_WEIGHTS_ALONE}"
            )
    raise TypeError("not a storage")


def _dict(pairs):
    return {_key(key): value for key, value in pairs}


def _key(key):
    if key is None or isinstance(key, (str, int, float)):
        return key
    raise TypeError("a key is neither a string nor a number")


def _checked(value, kind):
    if type(value) is not kind:
        raise TypeError(f"expected a {kind.__name__}")
    return value
