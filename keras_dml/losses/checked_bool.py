"""Checks on the switches that a loss takes."""

import numpy as np


def checked_bool(value, name):
    """Returns the value as a bool, once known to be one.

    Raises:
        ValueError: if it is something else, such as the text "False", which is true.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False; got {value!r}.")
    return bool(value)
