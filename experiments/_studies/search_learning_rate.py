"""The search for a learning rate."""

from collections.abc import Callable
from collections.abc import Mapping


def search_learning_rate(
    score: Callable[[float], float], most: int
) -> dict[float, float]:
    """Tries multiples of a learning rate, each about three times the one before.

    0.3, 1 and 3 come first. As long as the best is the lowest or the highest tried, the
    next multiple beyond it is tried: 0.1 and 0.03, or 10 and 30.

    Args:
        score: gives the score of a multiple; higher is better.
        most: the number of multiples to try at most, 3 or more.

    Returns:
        {multiple: score}, by multiple. The best is `best_rate` of these.
    """
    lowest, highest = -1, 1
    scores = {_multiple(n): score(_multiple(n)) for n in range(lowest, highest + 1)}
    while len(scores) < most:
        best = best_rate(scores)
        if best == min(scores):
            lowest -= 1
            multiple = _multiple(lowest)
        elif best == max(scores):
            highest += 1
            multiple = _multiple(highest)
        else:
            break
        scores[multiple] = score(multiple)
    return dict(sorted(scores.items()))


def best_rate(scores: Mapping[float, float]) -> float:
    """The rate with the highest score, the lowest of these if there are several."""
    return min(scores, key=lambda rate: (-scores[rate], rate))


def _multiple(n):
    """The n-th of …, 0.1, 0.3, 1, 3, 10, …, counted from 1, which is the 0-th."""
    return float(f"{(1, 3)[n % 2] * 10.0 ** (n // 2):g}")
