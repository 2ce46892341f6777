import keras
import numpy as np
import pytest

from keras_dml._ops import IS_KERAS_2
from keras_dml.layers._sampling import sampling_correction

pytestmark = pytest.mark.skipif(IS_KERAS_2, reason="classes are drawn on Keras 3")


def weights(own, drawn, num_classes):
    """How many classes each column stands for."""
    found = sampling_correction(
        keras.ops.convert_to_tensor(own, "int32"),
        keras.ops.convert_to_tensor(drawn, "int32"),
        num_classes,
    )
    found = keras.ops.convert_to_numpy(found)
    assert np.isfinite(found).all()
    return np.exp(found)


def test_hand_worked_columns():
    # Of 10 classes, 2 are in the batch; 8 others, for which 0 and 9 stand.
    found = weights([7, 7, 3], [0, 3, 9, 7], 10)
    np.testing.assert_allclose(found, [1, 0, 1, 4, 0, 4, 0], 1e-6)


def test_every_class_counts_once_where_all_are_drawn():
    rng = np.random.default_rng(0)
    own, drawn = rng.integers(0, 40, 30), rng.permutation(40)
    found = weights(own, drawn, 40)
    assert set(found) == {0.0, 1.0}
    counted = np.bincount(np.concatenate([own, drawn])[found == 1], minlength=40)
    np.testing.assert_array_equal(counted, 1)


def test_a_batch_of_all_classes_or_of_all_that_are_drawn_needs_no_others():
    np.testing.assert_array_equal(weights([1, 0, 2], [2, 1], 3), [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(weights([4], [4], 9), [1, 0])
