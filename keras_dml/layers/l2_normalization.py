"""Scaling vectors to length 1."""

import keras

from keras_dml._ops import dtype_name
from keras_dml._ops import ops


def l2_normalize(x):
    """Scales each vector to length 1: `x * rsqrt(max(sum(x²), 1e-12))`.

    Unlike `keras.ops.normalize`, its gradient at a zero vector is finite on every
    backend; a zero vector stays zero. Computed in float32 or wider.

    Args:
        x: (..., dim) floats.

    Returns:
        (..., dim), of float64 for float64 and of float32 for all other dtypes.
    """
    if dtype_name(x.dtype) != "float64":
        x = ops.cast(x, "float32")
    squared_length = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squared_length, 1e-12))


@keras.saving.register_keras_serializable(package="keras_dml")
class L2Normalization(keras.layers.Layer):
    """Scales embeddings to length 1, so that their inner product is their cosine.

    The output stays float32 under mixed precision, because a retrieval ranks by the
    small differences that half precision rounds away.

    Call arguments:
        x: (batch, ..., dim) floats.

    Returns:
        (batch, ..., dim) unit vectors, float32 (float64 for float64); a zero vector
        stays zero.

    Example:
        >>> keras_dml.layers.L2Normalization()(np.array([[3.0, 4.0]]))
        [[0.6, 0.8]]
    """

    def __init__(self, **kwargs):
        """Takes the arguments that every Keras layer takes."""
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x):
        """Scales the last axis to length 1."""
        return l2_normalize(x)
