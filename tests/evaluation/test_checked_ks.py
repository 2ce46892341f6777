import numpy as np
import pytest

from keras_dml._checks import checked_ks


@pytest.mark.parametrize("ks", [(4, 1), [4, 1], np.array([4, 1], np.int32)])
def test_ranks_become_python_integers_in_order(ks):
    assert checked_ks(ks) == (4, 1)
    assert {type(k) for k in checked_ks(ks)} == {int}


@pytest.mark.parametrize(
    ("ks", "message"),
    [
        (5, "ks must be a sequence; got 5"),
        ((), "not empty"),
        ((1, 2, 1), "must be distinct"),
        ((1, 0), "ks holds 0"),
        ((-3,), "ks holds -3"),
        ((1.0,), "ks holds 1.0"),
        ((True,), "ks holds True"),
        ("12", "ks holds '1'"),
    ],
)
def test_anything_else_is_refused_with_an_example(ks, message):
    with pytest.raises(ValueError, match=message) as error:
        checked_ks(ks)
    assert "such as ks=(1, 2, 4, 8)" in str(error.value)
