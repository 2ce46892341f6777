"""Scaling vectors to length 1."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._ops import Tensor
from keras_dml._ops import dtype_name
from keras_dml._ops import ops


def l2_normalize(x: Tensor) -> Tensor:
    """Scales each vector to length 1: `x * rsqrt(max(sum(x²), 1e-12))`.

    A vector comes out with length 1 if its own lies between 1e-6 and 1.8e19 (1.3e154 in
    float64): a shorter one is multiplied by 1e6, and of a longer one, whose squared
    length is infinite, nothing but zeros is left.

    Unlike `keras.ops.normalize`, its gradient at a zero vector is finite on every
    backend; a zero vector stays zero. Computed in float32 or wider.

    Args:
        x: (..., dim) floats or integers, a tensor or an array.

    Returns:
        (..., dim), of float64 for float64 and of float32 for all other dtypes.

    Example:
        >>> unit = keras_dml.layers.l2_normalize(np.array([[3.0, 4.0], [0.0, 0.0]]))
        >>> keras.ops.convert_to_numpy(unit)
        array([[0.6, 0.8],
               [0. , 0. ]])
    """
    x = ops.convert_to_tensor(x)
    if dtype_name(x.dtype) != "float64":
        x = ops.cast(x, "float32")
    squared_length = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squared_length, 1e-12))


@keras.saving.register_keras_serializable(package="keras_dml")
class L2Normalization(keras.layers.Layer):
    """Scales embeddings to length 1, so that their inner product is their cosine.

    The output stays float32 under mixed precision, because retrieval ranks by small
    differences that half precision rounds away.

    Args:
        **kwargs: those of every Keras layer, such as `name` and `dtype`.

    Call arguments:
        x: (batch, ..., dim) floats.

    Returns:
        (batch, ..., dim) unit vectors, float32 (float64 for float64); a zero vector
        stays zero.

    Example:
        >>> unit = keras_dml.layers.L2Normalization()(np.array([[3.0, 4.0]]))
        >>> keras.ops.convert_to_numpy(unit)
        array([[0.6, 0.8]], dtype=float32)
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x: Tensor) -> Tensor:
        """Scales the last axis to length 1."""
        return l2_normalize(x)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Gives the shape of the input."""
        return input_shape

    def compute_output_spec(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Gives shape and dtype, where Keras would take the layer's compute dtype."""
        dtype = "float64" if x.dtype == "float64" else "float32"
        return keras.KerasTensor(x.shape, dtype)
