"""The least effort at which an approximate search agrees with exact search.

All kinds of index are calibrated by these two functions: one judges a sample of
queries, the other doubles the effort until the sample passes, and halves it again.
"""

from collections.abc import Callable

import numpy as np

# An effort far from the target is given up after so many queries.
_TRIED_FIRST = 200
_BISECTIONS = 2
# Of the normal distribution: 99 % lie above the first, 99.9 % below the second. The
# first leaves room for the several efforts that are tried on one sample.
_LOWER, _UPPER = -2.326, 3.09


def judged_agreement(
    shares_of: Callable[[slice], np.ndarray], queries: int, target: float
) -> tuple[float, bool]:
    """Tells whether the mean agreement of a sample reaches a target beyond doubt.

    Args:
        shares_of: gives the share of the nearest that was found, 0 … 1, for a slice of
            the queries.
        queries: how many there are.
        target: the mean to reach.

    Returns:
        (the mean, whether it reaches the target); of the first queries alone, where
        these rule it out.
    """
    shares = shares_of(slice(_TRIED_FIRST))
    if _bound(shares, _UPPER) < target:
        return float(shares.mean()), False
    if queries > _TRIED_FIRST:
        shares = np.concatenate([shares, shares_of(slice(_TRIED_FIRST, None))])
    return float(shares.mean()), bool(_bound(shares, _LOWER) >= target)


def least_effort(
    tried: Callable[[int], tuple[float, bool]], least: int, most: int
) -> tuple[int, float, bool]:
    """Finds the least effort that reaches the target, or takes the most there is.

    Args:
        tried: gives (agreement, whether it reaches the target) of an effort.
        least: the effort to begin with.
        most: the most there is.

    Returns:
        (effort, its agreement, whether it reaches the target).
    """
    short = None
    effort = least
    found, reached = tried(effort)
    while not reached and effort < most:
        short, effort = effort, min(2 * effort, most)
        found, reached = tried(effort)
    if reached and short is not None:
        for _ in range(_BISECTIONS):
            middle = round((short * effort) ** 0.5)
            agreed, enough = tried(middle)
            if enough:
                effort, found = middle, agreed
            else:
                short = middle
    return effort, found, reached


def _bound(shares, deviations):
    # Where all agree the standard deviation is 0 and tells nothing. So one share of the
    # opposite extreme is added, as Agresti and Coull do with proportions.
    shares = np.append(shares, deviations > 0)
    return shares.mean() + deviations * shares.std() / len(shares) ** 0.5
