"""The preprocessing of pixels that the trunks of `keras.applications` expect."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._checks import checked_choice
from keras_dml._ops import Tensor
from keras_dml._ops import ops

_FAMILIES = tuple(
    name
    for name in dir(keras.applications)
    if hasattr(getattr(keras.applications, name), "preprocess_input")
)


@keras.saving.register_keras_serializable(package="keras_dml")
class PixelPreprocessing(keras.layers.Layer):
    """Applies `keras.applications.<family>.preprocess_input`, as a layer of the model.

    In the model it can't be forgotten or done twice: training, evaluation and the
    exported graph all take plain RGB pixels. The arithmetic is float32 whatever the
    mixed-precision policy.

    Args:
        family: a module of `keras.applications`, such as "resnet" or "mobilenet_v2".
        **kwargs: those of every Keras layer, such as `name`.

    Call arguments:
        images: (batch, height, width, 3) RGB pixels from 0 to 255.

    Returns:
        (batch, height, width, 3) float32, as that family's weights expect them.

    Raises:
        ValueError: if `keras.applications` has no such family.

    Example:
        >>> layer = keras_dml.models.PixelPreprocessing("mobilenet_v2")
        >>> keras.ops.convert_to_numpy(layer(np.full((1, 1, 1, 3), 255.0)))
        array([[[[1., 1., 1.]]]], dtype=float32)
    """

    def __init__(self, family: str, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.family = checked_choice(family, "family", _FAMILIES)

    def call(self, images: Tensor) -> Tensor:
        """Applies the family's function."""
        # A copy, as on PyTorch that function overwrites what it is given.
        images = ops.copy(ops.cast(images, self.compute_dtype))
        return getattr(keras.applications, self.family).preprocess_input(images)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Gives the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the family included."""
        return {**super().get_config(), "family": self.family}
