"""Trunks of `keras.applications`."""

import inspect

import keras

from keras_dml.models.pixel_preprocessing import PixelPreprocessing


def _applications():
    """Finds every model of `keras.applications`, for `APPLICATIONS`."""
    modules = {
        name: module
        for name, module in vars(keras.applications).items()
        if inspect.ismodule(module) and hasattr(module, "preprocess_input")
    }
    applications = {}
    for name, constructor in vars(keras.applications).items():
        if not name[0].isupper():
            continue
        # The MobileNetV3 constructors are not in the module of their preprocessing.
        families = (family for family in modules if hasattr(modules[family], name))
        applications[name.lower()] = (constructor, next(families, "mobilenet_v3"))
    return applications


APPLICATIONS = _applications()
"""{trunk name: (constructor, module of keras.applications with the preprocessing)}."""


def application_trunk(
    name: str, input_shape: tuple[int, int, int], imagenet: bool
) -> keras.Model:
    """Builds a model of `keras.applications` without classifier, with preprocessing.

    Args:
        name: one of `APPLICATIONS`.
        input_shape: (height, width, 3) of the images.
        imagenet: whether to load the ImageNet weights, which Keras downloads; random
            weights otherwise.

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
