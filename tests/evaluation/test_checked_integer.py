import numpy as np
import pytest

from keras_dml._checks import checked_integer


@pytest.mark.parametrize("value", [1, 9, np.int64(9), np.uint8(1)])
def test_integers_in_range_become_python_integers(value):
    assert checked_integer(value, "k", 1, 9) == value
    assert type(checked_integer(value, "k", 1, 9)) is int


@pytest.mark.parametrize("value", [0, 10, 2.0, "2", None, True])
def test_anything_else_is_refused_by_name_and_range(value):
    with pytest.raises(ValueError, match="k must be an integer, 1 … 9; got "):
        checked_integer(value, "k", 1, 9)


def test_range_may_be_open_above():
    assert checked_integer(10**30, "k", 1) == 10**30
    with pytest.raises(ValueError, match="k must be an integer, at least 1; got 0"):
        checked_integer(0, "k", 1)
