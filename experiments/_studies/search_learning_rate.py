"""The search for a learning rate."""

from collections.abc import Callable


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
    # By position: multiple −1 is 0.3, 0 is 1, 1 is 3, 2 is 10 and so on.
    scores = {position: score(_multiple(position)) for position in (-1, 0, 1)}
    while len(scores) < most:
        best = best_rate(scores)
        if best == min(scores):
            position = best - 1
        elif best == max(scores):
            position = best + 1
        else:
            break
        scores[position] = score(_multiple(position))
    return {_multiple(position): scores[position] for position in sorted(scores)}


def best_rate(scores: dict[float, float]) -> float:
    """The rate with the highest score, the lowest of these if there are several."""
    return min(scores, key=lambda rate: (-scores[rate], rate))


def _multiple(position):
    return float(f"{(1, 3)[position % 2] * 10.0 ** (position // 2):g}")
