"""Pooling between the average and the maximum, by a power that is learned."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import NOT_AUTOCAST
from keras_dml._ops import Tensor
from keras_dml._ops import dtype_name
from keras_dml._ops import ops

_LEAST = 1e-6
"""What features count as at least; the value of the authors' code."""


@keras.saving.register_keras_serializable(package="keras_dml")
class GeneralizedMeanPooling(keras.layers.Layer):
    """Pools each channel by its generalized mean (GeM), of a power that is learned.

    `y = (mean(max(x, 1e-6)^p))^(1/p)` over all axes between batch and channels. With
    p = 1 that is the average of features that are not negative, and the larger p is,
    the nearer it comes to the maximum. Negative features count as 1e-6: it is meant for
    those that follow a ReLU.

    Positions that a mask leaves out, as of padding, are not pooled. A row of which it
    leaves nothing counts as features of 0.

    The arithmetic is float32 or wider, and no power overflows; the output has the
    layer's compute dtype.

    Args:
        p: the power to start from, above 0. The default, 3, is the paper's.
        **kwargs: those of every Keras layer, such as `name` and `dtype`.

    Call arguments:
        x: (batch, …, channels) floats, such as (batch, rows, columns, channels) feature
            maps or (batch, tokens, channels).
        mask: None, or booleans of x's first axes, such as (batch, tokens), True where x
            counts. Keras passes on that of `keras.layers.Embedding(mask_zero=True)`.

    Returns:
        (batch, channels).

    Raises:
        ValueError: if p is out of range, or the input has nothing to pool.

    Weights:
        p: the power, of shape (), float32 whatever the mixed-precision policy (float64
            where the layer's dtype is float64).

    Example:
        >>> layer = keras_dml.layers.GeneralizedMeanPooling()
        >>> y = layer(np.array([[[1.0], [2.0], [3.0]]]))  # ((1 + 8 + 27) / 3)^(1/3)
        >>> keras.ops.convert_to_numpy(y).round(4)
        array([[2.2894]], dtype=float32)

    Reference:
        [Radenović et al., 2018](https://arxiv.org/abs/1711.02512), section 3.2.
    """

    def __init__(self, p: float = 3.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self._first_p = checked_number(p, "p", above=0, example=3)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the power."""
        if len(input_shape) < 3:
            raise ValueError(
                "GeneralizedMeanPooling takes features of shape (batch, …, channels) "
                f"with an axis to pool; got shape {tuple(input_shape)}."
            )
        self.p = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self._first_p),
            dtype="float64" if self.variable_dtype == "float64" else "float32",
            **NOT_AUTOCAST,
            name="p",
        )
        self.built = True

    def call(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pools all axes but the first and the last."""
        p = ops.convert_to_tensor(self.p)
        axes = tuple(range(1, len(x.shape) - 1))
        x = ops.maximum(ops.cast(x, dtype_name(p.dtype)), _LEAST)
        if mask is not None:
            mask = ops.cast(mask, "bool")
            while len(mask.shape) < len(x.shape):
                mask = mask[..., None]
            x = ops.where(mask, x, _LEAST)
        # The mean of shares of the largest neither overflows nor becomes 0. As a factor
        # that cancels out, the largest needs no gradient.
        largest = ops.stop_gradient(ops.max(x, axis=axes, keepdims=True))
        powers = (x / largest) ** p
        if mask is None:
            mean = ops.mean(powers, axis=axes)
        else:
            is_empty = ops.logical_not(ops.any(mask, axis=axes, keepdims=True))
            counted = ops.cast(ops.logical_or(mask, is_empty), powers.dtype)
            counts = counted + ops.zeros_like(powers)
            mean = ops.sum(powers * counts, axis=axes) / ops.sum(counts, axis=axes)
        largest = ops.reshape(largest, ops.shape(mean))
        return ops.cast(largest * mean ** (1 / p), self.compute_dtype)

    def compute_mask(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Gives None, as no position is left."""
        return None

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Gives (batch, channels)."""
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the power to start from included."""
        return {**super().get_config(), "p": self._first_p}
