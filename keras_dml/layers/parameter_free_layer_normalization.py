"""Layer normalization without scale and offset."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops


@keras.saving.register_keras_serializable(package="keras_dml")
class ParameterFreeLayerNormalization(keras.layers.Layer):
    """Centers each feature vector and scales it to unit variance, with no weights.

    `y = (x - mean(x)) / sqrt(var(x) + epsilon)` over the last axis, `var` being the
    mean squared deviation. The features come out centered, so that the sign of an
    embedding's dimension can serve as its bit.

    The arithmetic is float32 or wider; the output has the layer's compute dtype.

    Args:
        epsilon: added to the variance, above 0. The default, 1e-5, is the paper's
            (PyTorch's `F.layer_norm`); Keras's own layer has 1e-3.
        **kwargs: those of every Keras layer, such as `name` and `dtype`.

    Call arguments:
        x: (batch, ..., features) floats.

    Returns:
        (batch, ..., features), the input's shape.

    Raises:
        ValueError: if epsilon is out of range.

    Example:
        >>> layer = keras_dml.layers.ParameterFreeLayerNormalization()
        >>> keras.ops.convert_to_numpy(layer(np.array([[1.0, 3.0]]))).round(4)
        array([[-1.,  1.]], dtype=float32)

    Reference:
        [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649), section 3.2.
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = checked_number(epsilon, "epsilon", above=0, example=1e-5)
        self.supports_masking = True

    def call(self, x: Tensor) -> Tensor:
        """Normalizes the last axis."""
        if self.compute_dtype in ("float16", "bfloat16"):
            x = ops.cast(x, "float32")
        centered = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centered), axis=-1, keepdims=True)
        y = centered * ops.rsqrt(variance + self.epsilon)
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Gives the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, epsilon included."""
        return {**super().get_config(), "epsilon": self.epsilon}
