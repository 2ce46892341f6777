"""Pixels less their mean, over their standard deviation."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras

from keras_dml._checks import checked_bool
from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops


@keras.saving.register_keras_serializable(package="keras_dml")
class PixelNormalization(keras.layers.Layer):
    """Computes `(pixels - mean) / std` for each channel, as a layer of the model.

    In the model it can't be forgotten or done twice: training, evaluation and the
    exported graph all take plain RGB pixels. The arithmetic is float32 whatever the
    mixed-precision policy.

    Args:
        mean: one number a channel, on the scale from 0 to 255.
        std: one number a channel above 0, on the same scale.
        bgr: whether to put the channels into the order blue, green, red first; mean
            and std are in that order then.
        **kwargs: those of every Keras layer, such as `name`.

    Call arguments:
        images: (batch, height, width, channels) RGB pixels from 0 to 255.

    Returns:
        (batch, height, width, channels) float32.

    Raises:
        ValueError: if mean and std are not as many finite numbers, std above 0, or
            bgr is no bool.

    Example:
        >>> layer = keras_dml.models.PixelNormalization([127.5] * 3, [127.5] * 3)
        >>> keras.ops.convert_to_numpy(layer(np.full((1, 1, 1, 3), 255.0)))
        array([[[[1., 1., 1.]]]], dtype=float32)
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        bgr: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        means = _checked_numbers(mean, "mean")
        stds = _checked_numbers(std, "std", above=0)
        if len(means) != len(stds):
            raise ValueError(
                "mean and std must be one number a channel; got "
                f"mean={means}, std={stds}."
            )
        self.mean = means
        self.std = stds
        self.bgr = checked_bool(bgr, "bgr")

    def call(self, images: Tensor) -> Tensor:
        """Normalizes the pixels."""
        images = ops.cast(images, self.compute_dtype)
        if self.bgr:
            images = ops.flip(images, axis=-1)
        mean, std = (
            ops.convert_to_tensor(one, self.compute_dtype)
            for one in (self.mean, self.std)
        )
        return (images - mean) / std

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Gives the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, mean, std and bgr included."""
        return {
            **super().get_config(),
            "mean": list(self.mean),
            "std": list(self.std),
            "bgr": self.bgr,
        }


def _checked_numbers(numbers, name, above=None):
    if isinstance(numbers, str) or not isinstance(numbers, Iterable):
        raise ValueError(
            f"{name} must hold one number a channel, such as [127.5] * 3; got "
            f"{numbers!r}."
        )
    numbers = [checked_number(one, f"{name}'s numbers", above=above) for one in numbers]
    if not numbers:
        raise ValueError(f"{name} must hold one number a channel; it is empty.")
    return numbers
