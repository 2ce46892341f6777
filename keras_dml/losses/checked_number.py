"""Checks on the numbers that a loss takes."""

import math


def checked_number(value, name, example, least=None, above=None):
    """Returns the value as a float, once known to be finite and in range.

    Raises:
        ValueError: if it is not; the message has the name and an example.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if least is not None:
        wanted, is_right = f"{least:g} or more", number >= least
    elif above is not None:
        wanted, is_right = f"above {above:g}", number > above
    else:
        wanted, is_right = "a finite number", True
    if not (is_right and math.isfinite(number)):
        raise ValueError(f"{name} must be {wanted}, such as {example}; got {value!r}.")
    return number
