import math

import pytest

from experiments._studies.search_learning_rate import best_rate
from experiments._studies.search_learning_rate import search_learning_rate


def peak_at(rate):
    """A score that falls on both sides of a rate, and the rates it was asked for."""
    asked = []

    def score(multiple):
        asked.append(multiple)
        return -abs(math.log(multiple / rate))

    return score, asked


@pytest.mark.parametrize(
    ("peak", "tried"),
    [
        (1, [0.3, 1, 3]),
        (3, [0.3, 1, 3, 10]),
        (0.3, [0.1, 0.3, 1, 3]),
        (1000, [0.3, 1, 3, 10, 30]),
        (0.001, [0.03, 0.1, 0.3, 1, 3]),
    ],
)
def test_search_ends_when_the_best_has_a_worse_one_on_each_side(peak, tried):
    score, asked = peak_at(peak)
    scores = search_learning_rate(score, most=5)
    assert list(scores) == tried
    assert sorted(asked) == tried
    assert best_rate(scores) == min(tried, key=lambda rate: abs(math.log(rate / peak)))


def test_the_lowest_of_equally_good_rates_is_best():
    assert best_rate({3: 0.5, 1: 0.5, 0.3: 0.4}) == 1
