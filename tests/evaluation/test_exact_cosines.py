import numpy as np
import pytest

from keras_dml._similarity import exact_cosines
from keras_dml._similarity import exact_cosines_at
from keras_dml._similarity import make_exact
from keras_dml._similarity import rounding_margin
from keras_dml._similarity import unit_rows


def rows(count, dim, seed=0):
    return unit_rows(np.random.default_rng(seed).normal(size=(count, dim)))


def in_longdouble(first, second):
    return first.astype(np.longdouble) @ second.astype(np.longdouble).T


@pytest.mark.parametrize("dim", [1, 3, 17, 512, 2048])
def test_they_are_the_nearest_to_the_truth(dim):
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


def test_what_is_not_compared_stays_so():
    product = np.full((2, 3), -np.inf, np.float32)
    product[1, 2] = 0
    make_exact(product, np.eye(3, dtype=np.float32)[:2], np.ones((3, 3), np.float32))
    assert product.tolist() == [[-np.inf] * 3, [-np.inf, -np.inf, 1]]


@pytest.mark.parametrize("dim", [8, 512, 2048])
@pytest.mark.parametrize("alike", [True, False])
def test_products_lie_within_the_margin(dim, alike):
    # Rows of one value each round alike at every step of the sum, which is the worst.
    first = unit_rows(np.ones((100, dim))) if alike else rows(100, dim)
    off = np.abs((first @ first.T).astype(np.longdouble) - in_longdouble(first, first))
    assert off.max() < rounding_margin(dim)
