"""Checks on the K of Recall@K."""

from collections.abc import Sequence
from numbers import Integral


def checked_ks(ks: Sequence[int]) -> tuple[int, ...]:
    """Returns the ranks at which recall is asked for, as Python integers.

    Args:
        ks: distinct integers, each at least 1, at least one of them.

    Returns:
        The same, in the same order.

    Raises:
        ValueError: if they are anything else.
    """
    remedy = "Pass distinct integers of at least 1, such as ks=(1, 2, 4, 8)."
    try:
        ranks = tuple(ks)
    except TypeError:
        raise ValueError(f"ks must be a sequence; got {ks!r}. {remedy}") from None
    for k in ranks:
        if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
            raise ValueError(f"ks holds {k!r}. {remedy}")
    if not ranks or len(set(ranks)) < len(ranks):
        raise ValueError(f"ks must be distinct, and not empty; got {ks!r}. {remedy}")
    return tuple(int(k) for k in ranks)
