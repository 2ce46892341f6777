"""Layer normalization without scale and offset."""

import keras

from keras_dml._ops import ops


@keras.saving.register_keras_serializable(package="keras_dml")
class ParameterFreeLayerNormalization(keras.layers.Layer):
    """Centers each feature vector and scales it to unit variance, with no weights.

    `y = (x - mean(x)) / sqrt(var(x) + epsilon)` over the last axis, `var` being the
    mean squared deviation. The features come out centered, which is what lets the
    sign of an embedding's dimension serve as its bit.

    The arithmetic is float32 or wider; the output has the layer's compute dtype.

    Args:
        epsilon: added to the variance, positive. The default, 1e-5, is the paper's
            (PyTorch's `F.layer_norm`); Keras's own layer has 1e-3.

    Call arguments:
        x: (batch, ..., features) floats.

    Returns:
        (batch, ..., features), the input's shape.

    Raises:
        ValueError: if epsilon is not positive.

    Example:
        >>> layer = keras_dml.layers.ParameterFreeLayerNormalization()
        >>> layer(np.array([[1.0, 3.0]]))
        [[-1.0, 1.0]]

    Reference:
        [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649), section 3.2.
    """

    def __init__(self, epsilon=1e-5, **kwargs):
        """Checks epsilon; the class docstring has the arguments."""
        super().__init__(**kwargs)
        if not epsilon > 0:
            raise ValueError(f"epsilon must be positive, such as 1e-5; got {epsilon}.")
        self.epsilon = float(epsilon)
        self.supports_masking = True

    def call(self, x):
        """Normalizes the last axis."""
        if self.compute_dtype in ("float16", "bfloat16"):
            x = ops.cast(x, "float32")
        centered = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centered), axis=-1, keepdims=True)
        y = centered * ops.rsqrt(variance + self.epsilon)
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """Adds epsilon to the layer's configuration."""
        return {**super().get_config(), "epsilon": self.epsilon}
