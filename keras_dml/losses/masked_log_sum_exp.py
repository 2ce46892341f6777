"""The logarithm of a sum of exponentials of some elements."""

from keras_dml._ops import ops

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
    x = ops.where(mask, x, _NOTHING)
    greatest = ops.stop_gradient(ops.max(x, axis=axis, keepdims=True))
    terms = ops.where(mask, ops.exp(x - greatest), 0)
    total = ops.sum(terms, axis=axis)
    is_some = ops.any(mask, axis=axis)
    logarithm = ops.log(ops.where(is_some, total, 1))
    return logarithm + ops.squeeze(greatest, axis)
