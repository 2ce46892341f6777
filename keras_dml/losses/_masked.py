"""Reductions over the elements that a mask picks; it may pick none."""

from keras_dml._ops import Tensor
from keras_dml._ops import ops

_LARGE = 1e30
"""Stands for infinity: finite, because 0 times infinity would make gradients NaN."""


def masked_max(x: Tensor, mask: Tensor) -> Tensor:
    """Gives the maximum over the last axis where `mask` is true; 0 if nowhere."""
    greatest = ops.max(ops.where(mask, x, -_LARGE), axis=-1)
    return ops.where(ops.any(mask, axis=-1), greatest, 0)


def masked_min(x: Tensor, mask: Tensor) -> Tensor:
    """Gives the minimum over the last axis where `mask` is true; 0 if nowhere."""
    return -masked_max(-x, mask)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Gives the mean of all elements where `mask` is true; 0 if nowhere."""
    total = ops.sum(ops.where(mask, x, 0))
    return total / ops.maximum(ops.sum(ops.cast(mask, x.dtype)), 1)


def masked_logsumexp(x: Tensor, mask: Tensor, axis: int = -1) -> Tensor:
    """Gives `log(sum(exp(x)))` over an axis where `mask` is true; -1e30 if nowhere."""
    return ops.logsumexp(ops.where(mask, x, -_LARGE), axis=axis)
