"""Trunks of `keras.applications`."""

import inspect

import keras

from keras_dml.models.pixel_preprocessing import PixelPreprocessing


def _applications():
    """{trunk name: (constructor, family)} of every model in keras.applications."""
    modules = {
        name: module
        for name, module in vars(keras.applications).items()
        if inspect.ismodule(module) and hasattr(module, "preprocess_input")
    }
    found = {}
    for name, constructor in vars(keras.applications).items():
        if not name[0].isupper():
            continue
        homes = [family for family, module in modules.items() if hasattr(module, name)]
        # The MobileNetV3 constructors are not in the module of their preprocessing.
        family = homes[0] if homes else "mobilenet_v3"
        found[name.lower()] = (constructor, family)
    return found


APPLICATIONS = _applications()
"""{trunk name: (constructor, family of its preprocessing)}."""


def application_trunk(
    name: str, input_shape: tuple[int, int, int], imagenet: bool
) -> keras.Model:
    """A model of `keras.applications` without its classifier, with its preprocessing.

    Args:
        name: one of `APPLICATIONS`.
        input_shape: (height, width, 3) of the images.
        imagenet: whether to load the weights that Keras downloads.

    Returns:
        A model from (batch, height, width, 3) RGB pixels, 0 to 255, to
        (batch, rows, columns, channels) features.

    Raises:
        ValueError: if the model does not take images of that shape.
        OSError: if the ImageNet weights can't be downloaded.
    """
    constructor, family = APPLICATIONS[name]
    try:
        features = constructor(
            include_top=False,
            weights="imagenet" if imagenet else None,
            input_shape=tuple(input_shape),
        )
    except Exception as error:
        # Keras raises a plain Exception where it can't download.
        if "URL fetch failure" not in str(error):
            raise
        raise OSError(
            f"the ImageNet weights can't be downloaded ({error}). Give weights=None, "
            "or a weights file."
        ) from error
    inputs = keras.Input(input_shape, name="images")
    outputs = features(PixelPreprocessing(family)(inputs))
    return keras.Model(inputs, outputs, name=name)
