"""The mean of some elements."""

from keras_dml._ops import ops


def masked_mean(x, mask):
    """The mean of the elements of `x` where `mask` is true; 0 where it nowhere is."""
    total = ops.sum(ops.where(mask, x, 0))
    return total / ops.maximum(ops.sum(ops.cast(mask, x.dtype)), 1)
