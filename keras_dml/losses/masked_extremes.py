"""The greatest and the smallest of some elements."""

from keras_dml._ops import ops

_FAR = 1e30


def masked_max(x, mask):
    """The greatest along the last axis where `mask` is true; 0 where it nowhere is."""
    greatest = ops.max(ops.where(mask, x, -_FAR), axis=-1)
    return ops.where(ops.any(mask, axis=-1), greatest, 0)


def masked_min(x, mask):
    """The smallest along the last axis where `mask` is true; 0 where it nowhere is."""
    return -masked_max(-x, mask)
