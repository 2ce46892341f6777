import math
import re
import sys
from fractions import Fraction
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_dml._checks import check_distinct
from keras_dml._checks import checked_bool
from keras_dml._checks import checked_choice
from keras_dml._checks import checked_embeddings
from keras_dml._checks import checked_floats
from keras_dml._checks import checked_integer
from keras_dml._checks import checked_ks
from keras_dml._checks import checked_number
from keras_dml._checks import checked_pair
from keras_dml._checks import checked_rates
from keras_dml._checks import image_side

limits = st.none() | st.floats(-10, 10)
numbers = st.one_of(
    st.floats(), st.integers(), st.fractions(), st.just(10**400), st.booleans()
)


@pytest.mark.parametrize("value", [1, 9, np.int64(9), np.uint8(1)])
def test_integers_in_range_become_python_integers(value):
    assert checked_integer(value, "k", 1, 9) == value
    assert type(checked_integer(value, "k", 1, 9)) is int


@pytest.mark.parametrize("value", [0, 10, 2.0, "2", None, True, np.bool_(True), [2]])
def test_what_is_no_integer_in_range_is_refused_by_name(value):
    with pytest.raises(ValueError, match="k must be an integer from 1 to 9; got "):
        checked_integer(value, "k", 1, 9)


def test_range_may_be_open_above():
    assert checked_integer(10**30, "k", 1) == 10**30
    with pytest.raises(ValueError, match="k must be an integer of at least 1; got 0"):
        checked_integer(0, "k", 1)


@pytest.mark.parametrize(
    ("lowest", "highest", "wanted"),
    [
        (None, None, "an integer; got 'x'"),
        (3, None, "an integer of at least 3; got 'x'"),
        (None, 3, "an integer of at most 3; got 'x'"),
        (0, 2**31 - 1, "an integer from 0 to 2147483647; got 'x'"),
    ],
)
def test_wanted_integers_are_said_in_words(lowest, highest, wanted):
    with pytest.raises(ValueError, match=f"^seed must be {wanted}.$"):
        checked_integer("x", "seed", lowest, highest)


@given(
    numbers | st.text(max_size=2) | st.none(),
    st.none() | st.integers(-9, 9),
    st.none() | st.integers(-9, 9),
)
def test_integers_pass_exactly_when_they_are_in_range(value, lowest, highest):
    is_right = type(value) is int
    is_right = is_right and (lowest is None or value >= lowest)
    is_right = is_right and (highest is None or value <= highest)
    if is_right:
        assert checked_integer(value, "k", lowest, highest) == value
    else:
        with pytest.raises(ValueError, match=re.escape(f"; got {value!r}.")):
            checked_integer(value, "k", lowest, highest)


@pytest.mark.parametrize(
    "value", [0.5, 1, Fraction(1, 2), np.float32(0.5), np.float64(1), np.int8(1)]
)
def test_numbers_in_range_become_python_floats(value):
    found = checked_number(value, "margin", above=0, most=1)
    assert type(found) is float
    assert found == value


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ({}, "a finite number"),
        ({"example": 0.1}, "a finite number, such as 0.1"),
        ({"least": 0}, "a number of at least 0"),
        ({"above": 0, "example": 0.2}, "a number above 0, such as 0.2"),
        ({"least": 0, "most": 1}, "a number from 0 to 1"),
        ({"above": 0, "most": 1}, "a number above 0 and at most 1"),
        ({"least": 0, "below": 1}, "a number of at least 0 and below 1"),
        ({"least": 0, "below": math.pi}, "a number of at least 0 and below 3.14159"),
    ],
)
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**400, True, "1", None, 1j, [0.5]]
)
def test_what_is_no_finite_number_is_refused_by_name_and_range(limits, wanted, value):
    message = re.escape(f"margin must be {wanted}; got {value!r}.")
    with pytest.raises(ValueError, match=f"^{message}$"):
        checked_number(value, "margin", **limits)


@given(numbers, limits, limits, limits, limits)
def test_numbers_pass_exactly_when_they_are_in_range(value, least, above, most, below):
    arguments = {"least": least, "above": above, "most": most, "below": below}
    is_right = not isinstance(value, bool) and abs(value) <= sys.float_info.max
    is_right = is_right and (least is None or float(value) >= least)
    is_right = is_right and (above is None or float(value) > above)
    is_right = is_right and (most is None or float(value) <= most)
    is_right = is_right and (below is None or float(value) < below)
    if is_right:
        assert checked_number(value, "margin", **arguments) == float(value)
    else:
        with pytest.raises(ValueError, match=r"margin must be a .*number.*; got "):
            checked_number(value, "margin", **arguments)


@pytest.mark.parametrize("value", [True, False, np.bool_(True), np.bool_(False)])
def test_truth_values_become_python_bools(value):
    assert checked_bool(value, "squared") is bool(value)


@pytest.mark.parametrize("value", ["False", 0, 1, None, 1.0, [], np.array([True])])
def test_what_is_no_truth_value_is_refused(value):
    message = re.escape(f"squared must be True or False; got {value!r}.")
    with pytest.raises(ValueError, match=f"^{message}$"):
        checked_bool(value, "squared")


@pytest.mark.parametrize("choices", [("a", "b"), ["a", "b"], {"a": 1, "b": 2}])
def test_choices_pass(choices):
    assert checked_choice("b", "kind", choices) == "b"


def test_none_can_be_a_choice():
    assert checked_choice(None, "cache", (None, "memory")) is None
    message = re.escape("cache must be one of None, 'memory'; got 'disk'.")
    with pytest.raises(ValueError, match=f"^{message}$"):
        checked_choice("disk", "cache", (None, "memory"))


@pytest.mark.parametrize("value", ["c", "", "ab", None, 0, True, ["a"], np.array("a")])
@pytest.mark.parametrize("choices", [("a", "b"), {"a": 1, "b": 2}])
def test_other_choices_are_refused_with_all_that_there_are(value, choices):
    message = re.escape(f"kind must be one of 'a', 'b'; got {value!r}.")
    with pytest.raises(ValueError, match=f"^{message}$"):
        checked_choice(value, "kind", choices)


@pytest.mark.parametrize("ks", [(4, 1), [4, 1], np.array([4, 1], np.int32)])
def test_ranks_become_python_integers_in_order(ks):
    assert checked_ks(ks) == (4, 1)
    assert {type(k) for k in checked_ks(ks)} == {int}


@pytest.mark.parametrize(
    ("ks", "message"),
    [
        (5, "ks must be a sequence; got 5"),
        (None, "ks must be a sequence; got None"),
        ((), r"not empty; got \(\)"),
        ((1, 2, 1), r"must be distinct, and not empty; got \(1, 2, 1\)"),
        (iter((2, 2)), r"must be distinct, and not empty; got \(2, 2\)"),
        ((1, 0), "ks holds 0"),
        ((-3,), "ks holds -3"),
        ((1.0,), "ks holds 1.0"),
        ((True,), "ks holds True"),
        ("12", "ks holds '1'"),
        (np.array([[1, 2]]), r"ks holds array\(\[1, 2\]\)"),
    ],
)
def test_what_is_no_sequence_of_ranks_is_refused_with_an_example(ks, message):
    with pytest.raises(ValueError, match=message) as error:
        checked_ks(ks)
    assert "such as ks=(1, 2, 4, 8)" in str(error.value)


@given(st.lists(st.integers(-2, 12), max_size=6))
def test_ranks_pass_exactly_when_they_are_distinct_and_at_least_1(ks):
    if ks and min(ks) >= 1 and len(set(ks)) == len(ks):
        assert checked_ks(ks) == tuple(ks)
    else:
        with pytest.raises(ValueError, match=r"^ks "):
            checked_ks(ks)


@given(
    st.integers(1, 5).flatmap(
        lambda k: st.lists(
            st.lists(st.integers(-1, 4), min_size=k, max_size=k),
            min_size=1,
            max_size=4,
        )
    )
)
def test_first_row_that_holds_an_id_twice_is_named(rows):
    found = [[one for one in row if one >= 0] for row in rows]
    repeated = [i for i, row in enumerate(found) if len(set(row)) < len(row)]
    if not repeated:
        check_distinct(np.array(rows), "ids")
        return
    row = found[repeated[0]]
    twice = min(one for one in row if row.count(one) > 1)
    message = f"ids must not hold an id twice.*row {repeated[0]} holds {twice} twice"
    with pytest.raises(ValueError, match=message):
        check_distinct(np.array(rows), "ids")


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
        ([[1.0, 2.0], [3.0]], r"queries must have shape \(n, dim\).*no array"),
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


def model_of(*shape):
    return SimpleNamespace(input_shape=shape, name="embedder")


def test_side_of_square_images_is_given():
    assert image_side(model_of(None, 28, 28, 3)) == 28


@pytest.mark.parametrize(
    "shape", [(None, 28, 32, 3), (None, None, None, 3), (None, 28), (None, 28, 28)]
)
def test_model_without_square_images_of_a_fixed_size_is_refused(shape):
    message = re.escape(f"'embedder' takes {shape}.")
    with pytest.raises(ValueError, match=f"square images of a fixed size.*{message}"):
        image_side(model_of(*shape))


@pytest.mark.parametrize(
    "rates", [[0, 0.25], (np.float32(0), np.float64(0.25)), np.array([0, 0.25])]
)
def test_rates_become_python_floats_in_order(rates):
    assert checked_rates(rates, "rates") == (0.0, 0.25)
    assert {type(rate) for rate in checked_rates(rates, "rates")} == {float}


def test_there_may_be_no_rates():
    assert checked_rates((), "rates") == ()


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (0.1, "rates must be a sequence; got 0.1"),
        ("0.1", "rates must be a sequence; got '0.1'"),
        ((0.1, 1), "rates holds 1"),
        ((1 - Fraction(1, 10**30),), "rates holds Fraction"),
        ((-0.1,), "rates holds -0.1"),
        ((float("nan"),), "rates holds nan"),
        ((True,), "rates holds True"),
        ((None,), "rates holds None"),
        ((0.1, 0.1), "rates must be distinct"),
    ],
)
def test_what_is_no_sequence_of_rates_is_refused_with_an_example(rates, message):
    with pytest.raises(ValueError, match=message) as error:
        checked_rates(rates, "rates")
    assert "such as (0.001, 0.01)" in str(error.value)
