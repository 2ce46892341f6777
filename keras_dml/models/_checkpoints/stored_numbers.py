"""The numbers of a tensor's storage."""

import numpy as np


def stored_numbers(data, dtype: str, order: str) -> np.ndarray:
    """Turns the bytes of a storage into its numbers.

    Args:
        data: bytes or the like, a whole number of items.
        dtype: a NumPy dtype's name, or "bfloat16".
        order: "little" or "big", how the bytes of an item are ordered.

    Returns:
        A read-only vector of the machine's own byte order; bfloat16, which NumPy has
        not, as float32.
    """
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


def item_size(dtype: str) -> int:
    """The bytes of one number, of the dtypes that `stored_numbers` takes."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
