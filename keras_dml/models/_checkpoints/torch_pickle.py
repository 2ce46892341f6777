"""The pickles in PyTorch's checkpoints, read without Python's unpickler."""

import io
import pickletools
from typing import Any
from typing import NamedTuple

SAVE_ANEW = (
    "Download it again, or save it again with torch.save(model.state_dict(), file)."
)
"""What to do about a checkpoint that is not whole, for errors."""

_REMEDY = (
    "Save the weights alone: torch.save(model.state_dict(), file), or safetensors."
)
_MOST_AXES = 32  # NumPy's, before 2.0

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
_ADMITTED = {
    *_STORAGES,
    "collections OrderedDict",
    "torch._utils _rebuild_tensor",  # before PyTorch 0.4
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
}


class StorageRecord(NamedTuple):
    """A block of numbers that is kept outside the pickle.

    Attributes:
        dtype: a NumPy dtype's name, or "bfloat16".
        key: its name in the checkpoint.
        count: how many numbers the pickle says it has.
    """

    dtype: str
    key: str
    count: int


class TensorRecord(NamedTuple):
    """A tensor as a view of a storage; nothing in it has been checked but types.

    Attributes:
        storage: where its numbers are.
        offset: the first one's position there, in numbers.
        size: its shape.
        stride: steps between neighbors along each axis, in numbers.
    """

    storage: StorageRecord
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Global(NamedTuple):
    """An admitted "module name", which is never imported."""

    name: str


def read_torch_pickle(
    stream: io.BytesIO,
) -> tuple[Any, dict[str, StorageRecord]]:
    """Reads one pickle up to its end, to plain values and `TensorRecord`s.

    A pickle is a program, and Python's unpickler runs it: it imports what the pickle
    names and calls it. This interpreter can't. `pickletools.genops` splits the bytes
    into opcodes without running them; the opcodes known here are those with which
    PyTorch writes weights (pickle protocol 2), and all others are refused. None of
    them imports anything: a global is a string, compared with the few admitted here,
    and any other is refused when it is named, before it could be used. None of them
    calls, or sets an attribute of, what a pickle holds: REDUCE turns the admitted
    names into the records above, which are immutable, and BUILD, by which a
    state_dict gets its `_metadata`, is passed over. What comes out is made of None,
    bool, int, float, str, tuple, list, dict and records.

    Dictionary keys are None, numbers and strings, because the hash of nested tuples
    can take for ever. Memory is bounded by the pickle's own length.

    Args:
        stream: positioned at the pickle's start, and left at its end. It is in
            memory, so that a wrong length can't make a read allocate.

    Returns:
        The pickled value, and {key: record} of the storages that it refers to. The
        value's containers can hold themselves: don't walk or print them blindly.

    Raises:
        ValueError: if the pickle names anything but tensors, or is damaged.

    Reference:
        The opcodes are described in Python's `pickletools`; what PyTorch writes with
        them is in its `torch/serialization.py` and `torch/_utils.py`.
    """
    try:
        return _run(stream)
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        # An opcode found too little, or values of the wrong type, on the stack.
        raise ValueError(f"its pickle is damaged. {SAVE_ANEW}") from error


def _run(stream):
    stack, outer_stacks, memo, storages = [], [], {}, {}
    for opcode, argument, position in _opcodes(stream):
        match opcode.name:
            case "PROTO":
                if argument != 2:
                    raise ValueError(
                        f"it is pickled with protocol {argument}, where PyTorch "
                        f"writes 2. {_REMEDY}"
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
                if argument not in _ADMITTED:
                    name = argument.replace(" ", ".")
                    raise ValueError(
                        f"it holds more than tensors: {name}, which is refused and "
                        f"was not run. {_REMEDY}"
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
                    f"with which PyTorch writes no weights. {_REMEDY}"
                )


def _opcodes(stream):
    try:
        yield from pickletools.genops(stream)
    except ValueError as error:
        raise ValueError(
            f"its pickle is cut off or damaged ({error}). {SAVE_ANEW}"
        ) from error


def _reduce(name, arguments):
    match name.rpartition(" ")[2], _checked(arguments, tuple):
        case "OrderedDict", ():
            return {}
        case "OrderedDict", (list() as pairs,):  # Python 2 wrote it so
            made = _dict(pairs)
            pairs.clear()  # or one list, named again and again, would fill the memory
            return made
        case "_rebuild_tensor", (storage, offset, size, stride):
            return _tensor(storage, offset, size, stride)
        case "_rebuild_tensor_v2", (storage, offset, size, stride, _, _):
            return _tensor(storage, offset, size, stride)
        case "_rebuild_tensor_v2", (storage, offset, size, stride, _, _, flags):
            if flags:
                raise ValueError(
                    "it has a tensor whose numbers are kept negated or conjugated. "
                    "Save tensor.resolve_neg().resolve_conj()."
                )
            return _tensor(storage, offset, size, stride)
        case "_rebuild_parameter", (TensorRecord() as tensor, _, _):
            return tensor
    raise TypeError(f"wrong arguments of {name}")


def _tensor(storage, offset, size, stride):
    for numbers in (size, stride):
        if len(_checked(numbers, tuple)) > _MOST_AXES:
            raise ValueError(
                f"it has a tensor of more than {_MOST_AXES} axes. {SAVE_ANEW}"
            )
        if not all(type(number) is int for number in numbers):
            raise TypeError("a size or stride is not an integer")
    return TensorRecord(
        _checked(storage, StorageRecord), _checked(offset, int), size, stride
    )


def _storage(identifier):
    match identifier:
        case ("storage", _Global(name), str() as key, str(), int() as count):
            return StorageRecord(_STORAGES[name], key, count)
        case ("storage", _Global(name), str() as key, str(), int() as count, None):
            return StorageRecord(_STORAGES[name], key, count)
        case ("storage", _, _, _, _, tuple()):
            raise ValueError(
                f"it has a view of a storage, as before PyTorch 0.4. {_REMEDY}"
            )
        case ("module", *_):
            raise ValueError(f"it holds a whole module, with its code. {_REMEDY}")
    raise TypeError("not a storage")


def _dict(pairs):
    return {_key(key): value for key, value in pairs}


def _key(key):
    if key is None or isinstance(key, (str, int, float)):
        return key
    raise TypeError("a key is neither a string nor a number")


def _checked(value, kind):
    if type(value) is not kind:
        raise TypeError(f"a {kind.__name__} is wanted")
    return value
