"""The check on an integer argument."""

from numbers import Integral


def checked_integer(
    value: int, name: str, lowest: int, highest: int | None = None
) -> int:
    """Returns an argument as a Python integer, once known to be one in its range.

    Args:
        value: what the caller passed.
        name: what the caller's signature calls it, for the error message.
        lowest: the least it may be.
        highest: the most it may be; None: no limit.

    Returns:
        The same number.

    Raises:
        ValueError: if it is no integer, or out of range; True and False are none.
    """
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not integer or value < lowest or (highest is not None and value > highest):
        limits = f"at least {lowest}" if highest is None else f"{lowest} … {highest}"
        raise ValueError(f"{name} must be an integer, {limits}; got {value!r}.")
    return int(value)
