"""Figures of a ROC curve, given by the pairs that a falling threshold accepts.

A point of the curve is the share of negatives accepted, the false accept rate, and that
of positives, the true accept rate. Between two points it is a straight line, as if of
pairs exactly as similar as one another a random part were accepted; so ties are worth
one half, as they are to scikit-learn.
"""

import numpy as np


def area_under_curve(false_rates: np.ndarray, true_rates: np.ndarray) -> float:
    """Gives the area, the chance that a positive is more similar than a negative.

    Args:
        false_rates: (points,), rising from 0 to 1.
        true_rates: (points,), likewise.
    """
    heights = (true_rates[1:] + true_rates[:-1]) / 2
    return float(np.diff(false_rates) @ heights)


def equal_error_rate(false_rates: np.ndarray, true_rates: np.ndarray) -> float:
    """Gives the false accept rate that equals the share of positives not accepted.

    Args:
        false_rates: (points,), rising from 0 to 1.
        true_rates: (points,), likewise.
    """
    excess = false_rates + true_rates - 1  # rises from −1 to 1
    last = int(np.argmax(excess >= 0))
    part = excess[last - 1] / (excess[last - 1] - excess[last])
    step = false_rates[last] - false_rates[last - 1]
    return float(false_rates[last - 1] + part * step)
