import dataclasses

import pytest

from keras_dml.search import Calibration

RIGHT = Calibration(8, 0.99, 0.995, True, 1000, 0, 0.5, 0.25)


@pytest.mark.parametrize(
    "change",
    [
        {"k": 0},
        {"k": 8.0},
        {"queries": True},
        {"seed": -1},
        {"target": 1.5},
        {"agreement": -0.1},
        {"agreement": float("nan")},
        {"agreement": "0.9"},
        {"ms_per_query": None},
        {"exact_ms_per_query": -1},
        {"reached": 1},
    ],
)
def test_value_that_can_not_be_is_named(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"^{name} must be"):
        dataclasses.replace(RIGHT, **change)
