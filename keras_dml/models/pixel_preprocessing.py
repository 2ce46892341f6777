"""What each family of trunks expects done to its pixels."""

import keras

from keras_dml._ops import ops

_FAMILIES = tuple(
    name
    for name in dir(keras.applications)
    if hasattr(getattr(keras.applications, name), "preprocess_input")
)


@keras.saving.register_keras_serializable(package="keras_dml")
class PixelPreprocessing(keras.layers.Layer):
    """`keras.applications.<family>.preprocess_input`, as a layer of the model.

    Inside the model it can't be forgotten or done twice: training, evaluation and
    the exported graph all take plain RGB pixels. The arithmetic is float32 whatever
    the mixed-precision policy.

    Args:
        family: a module of `keras.applications`, such as "resnet" or "mobilenet_v2".

    Call arguments:
        images: (batch, height, width, 3) RGB pixels from 0 to 255.

    Returns:
        (batch, height, width, 3) float32, as that family's weights expect them.

    Raises:
        ValueError: if `keras.applications` has no such family.
    """

    def __init__(self, family, **kwargs):
        """Checks the family; the class docstring has the argument."""
        super().__init__(**{"dtype": "float32", **kwargs})
        if family not in _FAMILIES:
            raise ValueError(
                f"family must be one of {', '.join(_FAMILIES)}; got {family!r}."
            )
        self.family = family

    def call(self, images):
        """Applies the family's own function."""
        # A copy, as on PyTorch that function overwrites what it is given.
        images = ops.copy(ops.cast(images, self.compute_dtype))
        return getattr(keras.applications, self.family).preprocess_input(images)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """Adds the family to the layer's configuration."""
        return {**super().get_config(), "family": self.family}
