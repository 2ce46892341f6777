"""The search for a learning rate."""

from collections.abc import Callable


def climb_rates(score: Callable[[float], float], most: int) -> dict[float, float]:
    """Tries multiples of a rate, in steps of about half an order of magnitude.

    0.3, 1 and 3 come first. As long as the best lies at an end, the next multiple
    beyond it is tried: 10 and 30, or 0.1 and 0.03.

    Args:
        score: what a multiple achieves; more is better.
        most: multiples to try, 3 or more.

    Returns:
        {multiple: score}, by multiple. The best is `best_rate` of these.
    """
    scores = {rung: score(_multiple(rung)) for rung in (-1, 0, 1)}
    while len(scores) < most:
        best = best_rate(scores)
        if best == min(scores):
            rung = best - 1
        elif best == max(scores):
            rung = best + 1
        else:
            break
        scores[rung] = score(_multiple(rung))
    return {_multiple(rung): scores[rung] for rung in sorted(scores)}


def best_rate(scores: dict[float, float]) -> float:
    """The rate of the highest score, the lowest of several."""
    return min(scores, key=lambda rate: (-scores[rate], rate))


def _multiple(rung):
    return float(f"{(1, 3)[rung % 2] * 10.0 ** (rung // 2):g}")
