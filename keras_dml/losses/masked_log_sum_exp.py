"""The logarithm of a sum of exponentials of some elements."""

import keras

_NOTHING = -1e30


def masked_log_sum_exp(x, mask, axis=-1):
    """`log(sum(exp(x)))` over the elements where `mask` is true.

    Stays finite where that is nothing: -1e30 then, with a gradient of 0.

    Args:
        x: (rows, columns) floats.
        mask: (rows, columns) booleans.
        axis: the axis to sum over.

    Returns:
        (rows,) or (columns,).
    """
    x = keras.ops.where(mask, x, _NOTHING)
    greatest = keras.ops.stop_gradient(keras.ops.max(x, axis=axis, keepdims=True))
    terms = keras.ops.where(mask, keras.ops.exp(x - greatest), 0)
    total = keras.ops.sum(terms, axis=axis)
    is_some = keras.ops.any(mask, axis=axis)
    logarithm = keras.ops.log(keras.ops.where(is_some, total, 1))
    return logarithm + keras.ops.squeeze(greatest, axis)
