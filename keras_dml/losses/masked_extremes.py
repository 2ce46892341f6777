"""The greatest and the smallest of some elements."""

import keras

_FAR = 1e30


def masked_max(x, mask):
    """The greatest along the last axis where `mask` is true; 0 where it nowhere is."""
    greatest = keras.ops.max(keras.ops.where(mask, x, -_FAR), axis=-1)
    return keras.ops.where(keras.ops.any(mask, axis=-1), greatest, 0)


def masked_min(x, mask):
    """The smallest along the last axis where `mask` is true; 0 where it nowhere is."""
    return -masked_max(-x, mask)
