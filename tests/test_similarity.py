import numpy as np
import pytest

from keras_dml._similarity import comparable_rows
from keras_dml._similarity import exact_cosines
from keras_dml._similarity import exact_cosines_at
from keras_dml._similarity import exact_similarities
from keras_dml._similarity import make_exact
from keras_dml._similarity import paired_similarities
from keras_dml._similarity import rounding_margin
from keras_dml._similarity import similarities
from keras_dml._similarity import unit_rows


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_get_length_one_in_float32(dtype):
    rows = np.random.default_rng(0).normal(size=(5, 300)).astype(dtype)
    unit = unit_rows(rows)
    expected = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (np.float16, 6e-8),
        (np.float16, 1.6e4),
        (np.float32, 1.5e-45),
        (np.float32, 1e-30),
        (np.float32, 8e37),
        (np.float64, 5e-324),
        (np.float64, 4e307),
    ],
)
def test_direction_survives_the_longest_and_shortest_rows(dtype, scale):
    rows = np.array([[3, -4]], dtype) * np.array(scale, dtype)
    np.testing.assert_allclose(unit_rows(rows), [[0.6, -0.8]], rtol=1e-6)


def test_zero_row_stays_zero():
    assert unit_rows(np.array([[0.0, 0.0], [0.0, 2.0]])).tolist() == [[0, 0], [0, 1]]


def test_padding_rows_are_zero_and_come_last():
    unit = unit_rows(np.ones((5, 1)), row_multiple=4)
    assert unit[:, 0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]


def test_rows_scaled_in_blocks_are_the_same(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(11, 3))
    whole = unit_rows(rows, 4)
    monkeypatch.setattr("keras_dml._similarity._SCALED_VALUES", 6)
    np.testing.assert_array_equal(unit_rows(rows, 4), whole)


def rows(count, dim, seed=0):
    return unit_rows(np.random.default_rng(seed).normal(size=(count, dim)))


def in_longdouble(first, second):
    return first.astype(np.longdouble) @ second.astype(np.longdouble).T


@pytest.mark.parametrize("dim", [1, 3, 17, 512, 2048])
def test_exact_cosines_are_the_nearest_to_the_truth(dim):
    first, second = rows(60, dim), rows(40, dim, seed=1)
    expected = in_longdouble(first, second).astype(np.float32)
    pairs = np.divmod(np.arange(60 * 40), 40)
    found = exact_cosines_at(first, second, pairs).reshape(60, 40)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(exact_cosines(first[:40], second), np.diag(expected))
    product = first @ second.T
    make_exact(product, first, second)
    np.testing.assert_array_equal(product, expected)


@pytest.mark.parametrize("dim", [17, 512])
def test_copies_have_one_cosine_wherever_they_stand(dim):
    row, other = rows(2, dim)
    product = np.zeros((300, 2500), np.float32)
    copies = np.tile(row, (300, 1)), np.tile(other, (2500, 1))
    make_exact(product, *copies)
    assert len(np.unique(product)) == 1
    ends = np.array([0, 299, 7]), np.array([2499, 0, 2048])
    np.testing.assert_array_equal(exact_cosines_at(*copies, ends), product[0, 0])


def test_pairs_that_are_not_compared_stay_so():
    product = np.full((2, 3), -np.inf, np.float32)
    product[1, 2] = 0
    make_exact(product, np.eye(3, dtype=np.float32)[:2], np.ones((3, 3), np.float32))
    assert product.tolist() == [[-np.inf] * 3, [-np.inf, -np.inf, 1]]


@pytest.mark.parametrize("dim", [8, 512, 2048])
@pytest.mark.parametrize("alike", [True, False])
def test_products_lie_within_the_rounding_margin(dim, alike):
    # Rows of one value each round alike at every step of the sum, which is the worst.
    first = unit_rows(np.ones((100, dim))) if alike else rows(100, dim)
    off = np.abs((first @ first.T).astype(np.longdouble) - in_longdouble(first, first))
    assert off.max() < rounding_margin(dim)


def test_exact_similarities_are_the_cosines_rounded_once():
    first, second = rows(300, 70), rows(90, 70, seed=1)
    expected = in_longdouble(first, second).astype(np.float32)
    found = exact_similarities(first, second, are_codes=False)
    np.testing.assert_array_equal(found, expected)
    found = paired_similarities(first[:90], second)
    np.testing.assert_array_equal(found, expected[np.arange(90), np.arange(90)])


@pytest.mark.parametrize("with_faiss", [True, False])
def test_pairs_of_codes_are_as_similar_as_in_a_product(with_faiss, monkeypatch):
    if not with_faiss:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    codes = np.random.default_rng(0).integers(0, 256, (20, 11), np.uint8)
    prepared = comparable_rows(codes, 1)
    product = similarities(prepared[:10], prepared[10:])
    found = paired_similarities(prepared[:10], prepared[10:])
    np.testing.assert_array_equal(found, np.diag(product))
    assert found.dtype == product.dtype
    exact = exact_similarities(prepared[:10], prepared[10:], are_codes=True)
    np.testing.assert_array_equal(exact, product)
