import keras
import numpy as np
import pytest
from scipy import stats

from keras_dml._ops import IS_KERAS_2
from keras_dml.layers._sampling import drawn_classes
from keras_dml.layers._sampling import sampling_correction

pytestmark = pytest.mark.skipif(IS_KERAS_2, reason="classes are drawn on Keras 3")


def draws(num_classes, count, times, seed=0):
    """(times, count) classes, a row a step."""
    generator = keras.random.SeedGenerator(seed)
    return np.stack(
        [
            keras.ops.convert_to_numpy(drawn_classes(num_classes, count, generator))
            for _ in range(times)
        ]
    )


@pytest.mark.parametrize(
    ("num_classes", "count"), [(1, 1), (7, 7), (50, 5), (1000, 999), (100_003, 300)]
)
def test_none_is_drawn_twice_and_all_are_classes(num_classes, count):
    for row in draws(num_classes, count, 5):
        assert row.dtype == np.int32
        assert len(set(row)) == count
        assert row.min() >= 0
        assert row.max() < num_classes


@pytest.mark.slow
def test_every_class_and_every_pair_is_as_likely():
    num_classes, count, times = 20, 4, 1500
    drawn = draws(num_classes, count, times)
    taken = np.zeros((times, num_classes))
    taken[np.arange(times)[:, None], drawn] = 1
    # The counts of a draw without replacement vary less than independent ones do.
    expected = times * count / num_classes
    spread = (taken.sum(0) - expected) ** 2 / expected / (1 - count / num_classes)
    assert stats.chi2.sf(spread.sum(), num_classes - 1) > 1e-4
    together = (taken.T @ taken)[np.triu_indices(num_classes, 1)]
    share = count * (count - 1) / num_classes / (num_classes - 1)
    off = (together - times * share) / np.sqrt(times * share * (1 - share))
    assert 0.7 < np.mean(off**2) < 1.3
    assert np.abs(off).max() < 4.5


def test_steps_are_drawn_apart_from_one_another():
    taken = np.zeros((1001, 50))
    taken[np.arange(1001)[:, None], draws(50, 5, 1001)] = 1
    # Two draws of 5 of 50 share half a class, variance 5 × .1 × .9 × 45 / 49.
    shared = (taken[1:] * taken[:-1]).sum(1)
    assert abs(shared.mean() - 0.5) < 5 * np.sqrt(0.5 * 0.9 * 45 / 49 / 1000)


def test_the_seed_and_the_step_alone_settle_what_is_drawn():
    first = draws(1000, 10, 3, seed=5)
    np.testing.assert_array_equal(draws(1000, 10, 3, seed=5), first)
    assert (draws(1000, 10, 3, seed=6) != first).any(axis=1).all()
    assert (first[0] != first[1]).any()


def classes_a_column_stands_for(own, drawn, num_classes):
    """(columns,) numbers of classes, of which 0 leaves a column out."""
    found = sampling_correction(
        keras.ops.convert_to_tensor(own, "int32"),
        keras.ops.convert_to_tensor(drawn, "int32"),
        num_classes,
    )
    found = keras.ops.convert_to_numpy(found)
    assert np.isfinite(found).all()
    return np.exp(found)


def test_hand_worked_correction():
    # Of 10 classes, 2 are in the batch; 8 others, for which 0 and 9 stand.
    found = classes_a_column_stands_for([7, 7, 3], [0, 3, 9, 7], 10)
    np.testing.assert_allclose(found, [1, 0, 1, 4, 0, 4, 0], 1e-6)


def test_every_class_counts_once_where_all_are_drawn():
    rng = np.random.default_rng(0)
    own, drawn = rng.integers(0, 40, 30), rng.permutation(40)
    found = classes_a_column_stands_for(own, drawn, 40)
    assert set(found) == {0.0, 1.0}
    counted = np.bincount(np.concatenate([own, drawn])[found == 1], minlength=40)
    np.testing.assert_array_equal(counted, 1)


def test_a_batch_of_all_classes_or_of_all_that_are_drawn_needs_no_others():
    np.testing.assert_array_equal(
        classes_a_column_stands_for([1, 0, 2], [2, 1], 3), [1, 1, 1, 0, 0]
    )
    np.testing.assert_array_equal(classes_a_column_stands_for([4], [4], 9), [1, 0])
