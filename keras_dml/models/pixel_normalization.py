"""Pixels as the weights of the paper's trunks expect them."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_dml._ops import ops


@keras.saving.register_keras_serializable(package="keras_dml")
class PixelNormalization(keras.layers.Layer):
    """(pixels - mean) / std, channel by channel, as a layer of the model.

    Inside the model it can't be forgotten or done twice: training, evaluation and
    the exported graph all take plain RGB pixels. The arithmetic is float32 whatever
    the mixed-precision policy.

    Args:
        mean: one number a channel, on the scale from 0 to 255.
        std: one number a channel above 0, on the same scale.
        bgr: whether the channels are turned round to blue, green, red first; mean
            and std are in that order then.

    Call arguments:
        images: (batch, height, width, channels) RGB pixels from 0 to 255.

    Returns:
        (batch, height, width, channels) float32.

    Raises:
        ValueError: if mean and std are not as many finite numbers, std above 0.

    Example:
        >>> layer = PixelNormalization([127.5] * 3, [127.5] * 3)
        >>> layer(np.full((1, 1, 1, 3), 255.0))  # [[[[1., 1., 1.]]]]
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        bgr: bool = False,
        **kwargs,
    ):
        """Checks the numbers; the class docstring has the arguments."""
        super().__init__(**{"dtype": "float32", **kwargs})
        mean = [float(one) for one in mean]
        std = [float(one) for one in std]
        if (
            len(mean) != len(std)
            or not np.isfinite(mean + std).all()
            or min(std, default=0) <= 0
        ):
            raise ValueError(
                "mean and std must be one finite number a channel, std above 0; got "
                f"mean={mean}, std={std}."
            )
        self.mean = mean
        self.std = std
        self.bgr = bool(bgr)

    def call(self, images):
        """Turns the channels round, subtracts and divides."""
        images = ops.cast(images, self.compute_dtype)
        if self.bgr:
            images = ops.flip(images, axis=-1)
        mean, std = (
            ops.convert_to_tensor(one, self.compute_dtype)
            for one in (self.mean, self.std)
        )
        return (images - mean) / std

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """Adds the numbers and the order of the channels."""
        return {
            **super().get_config(),
            "mean": list(self.mean),
            "std": list(self.std),
            "bgr": self.bgr,
        }
