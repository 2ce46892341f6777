"""The rows of a variable that a gradient touches; TensorFlow's sparse gradients."""

import keras


def is_sparse(gradient):
    """Whether the gradient is that of some rows alone, a `tf.IndexedSlices`."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(gradient, tf.IndexedSlices)


def rows_and_values(gradient):
    """Takes a sparse gradient apart, and adds up what a row has more than once.

    Returns:
        (rows, values): (n,) integers, none twice, and (n, dim).
    """
    import tensorflow as tf

    rows, place = tf.unique(gradient.indices)
    return rows, tf.math.unsorted_segment_sum(gradient.values, place, tf.size(rows))


def as_rows(rows, values):
    """What an optimizer's `assign` and its kind take to write rows."""
    import tensorflow as tf

    return tf.IndexedSlices(values, rows)
