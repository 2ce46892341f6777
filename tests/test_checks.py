import ml_dtypes
import numpy as np
import pytest

from keras_dml._checks import checked_embeddings
from keras_dml._checks import checked_floats
from keras_dml._checks import checked_integer
from keras_dml._checks import checked_ks
from keras_dml._checks import checked_pair


@pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.uint8]
)
def test_supported_types_pass_through_uncopied(dtype):
    embeddings = np.ones((2, 3), dtype)
    assert checked_embeddings(embeddings, "queries") is embeddings


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.ones(3), r"queries must have shape \(n, dim\)"),
        (np.ones((2, 3, 4)), r"got \(2, 3, 4\)"),
        (np.ones((0, 3)), "at least one row"),
        (np.ones((3, 0)), "at least one row"),
        (np.ones((2, 3), np.int64), "got int64"),
        (np.ones((2, 3), bool), "got bool"),
        (np.ones((2, 3), ml_dtypes.bfloat16).view("V2"), "ml_dtypes.bfloat16"),
        ([["a", "b"]], "must be float16, bfloat16, float32 or float64"),
    ],
)
def test_other_shapes_and_types_are_refused(embeddings, message):
    with pytest.raises(ValueError, match=message):
        checked_embeddings(embeddings, "queries")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 4095, 4096, 4999])
def test_first_row_that_is_not_finite_is_named(value, row):
    embeddings = np.zeros((5000, 2), np.float16)
    embeddings[row:, 1] = value
    with pytest.raises(ValueError, match=f"gallery must be finite; row {row} holds"):
        checked_embeddings(embeddings, "gallery")


def test_packed_codes_are_no_floats():
    with pytest.raises(ValueError, match="got uint8, which here means packed codes"):
        checked_floats(np.ones((2, 3), np.uint8), "embeddings")


def test_float_widths_may_mix():
    queries, gallery = checked_pair(np.ones((2, 3), np.float16), np.ones((4, 3)))
    assert (queries.dtype, gallery.dtype) == (np.float16, np.float64)


@pytest.mark.parametrize(
    ("gallery", "message"),
    [
        (np.ones((2, 3), np.uint8), "got float64 and uint8"),
        (np.ones((2, 4)), r"got shapes \(2, 3\) and \(2, 4\)"),
        (np.full((2, 3), np.nan), "gallery must be finite"),
    ],
)
def test_pairs_that_cannot_be_compared_are_refused(gallery, message):
    with pytest.raises(ValueError, match=message):
        checked_pair(np.ones((2, 3)), gallery)


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
