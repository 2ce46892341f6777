"""The mean of some elements."""

import keras


def masked_mean(x, mask):
    """The mean of the elements of `x` where `mask` is true; 0 where it nowhere is."""
    total = keras.ops.sum(keras.ops.where(mask, x, 0))
    return total / keras.ops.maximum(keras.ops.sum(keras.ops.cast(mask, x.dtype)), 1)
