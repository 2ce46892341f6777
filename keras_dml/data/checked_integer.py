"""Checks on whole-number arguments."""

import numpy as np


def checked_integer(value: int, name: str, least: int) -> int:
    """Returns the value, once known to be an integer of at least `least`.

    Raises:
        ValueError: if it is not; the message has the name.
    """
    if not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(
            f"{name} must be an integer of at least {least}; got {value!r}."
        )
    return value
