"""Some rows of a weight matrix, the others unread."""

import keras


def rows_of(matrix, rows):
    """Gathers rows of a variable; on TensorFlow their gradient is sparse.

    Keras's `take` reads the whole variable first, which TensorFlow answers with a copy
    once rows of it have been written.

    Args:
        matrix: a variable of shape (rows, dim), Keras's or TensorFlow's own.
        rows: (n,) integers.

    Returns:
        (n, dim).
    """
    if keras.backend.backend() != "tensorflow":
        return keras.ops.take(matrix, rows, axis=0)
    import tensorflow as tf

    return tf.gather(
        matrix.value if isinstance(matrix, keras.Variable) else matrix, rows
    )
