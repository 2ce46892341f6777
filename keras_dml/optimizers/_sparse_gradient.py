"""TensorFlow's sparse gradients: those of some rows of a variable alone."""

from typing import Any

import keras

from keras_dml._ops import Tensor


def is_sparse(gradient: Any) -> bool:
    """Gives whether a gradient is that of some rows alone, a `tf.IndexedSlices`."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(gradient, tf.IndexedSlices)


def rows_and_values(gradient: Any) -> tuple[Tensor, Tensor]:
    """Takes a sparse gradient apart, and adds up what it has for one row.

    Args:
        gradient: a `tf.IndexedSlices`, in which a row may occur several times.

    Returns:
        (rows, values): (n,) integers, none twice, and (n, dim).
    """
    import tensorflow as tf

    rows, place = tf.unique(gradient.indices)
    return rows, tf.math.unsorted_segment_sum(gradient.values, place, tf.size(rows))


def as_rows(rows: Tensor, values: Tensor) -> Any:
    """Gives what an optimizer's `assign` and `assign_sub` take to write some rows."""
    import tensorflow as tf

    return tf.IndexedSlices(values, rows)
