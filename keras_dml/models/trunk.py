"""Trunks by name: the network that turns images into features."""

import inspect
import os

import keras

from keras_dml.models.conv4 import conv4
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


_APPLICATIONS = _applications()

TRUNKS = ("conv4", *sorted(_APPLICATIONS))
"""The names that `trunk` takes."""


def trunk(
    name: str,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | None = None,
) -> keras.Model:
    """A network without its classifier, with the preprocessing that it expects.

    Args:
        name: "conv4" (the few-shot network, for small images) or a model of
            `keras.applications` in lower case, such as "resnet50" or
            "efficientnetv2b0". `TRUNKS` lists them.
        input_shape: (height, width, 3) of the images.
        weights: None for random ones; "imagenet" for those that
            `keras.applications` downloads; or a weights file of this trunk, such as
            `trunk.save_weights("trunk.weights.h5")` writes.

    Returns:
        A model from (batch, height, width, 3) RGB pixels, 0 to 255, to
        (batch, rows, columns, channels) features.

    Raises:
        ValueError: if there is no such trunk, the shape is not (height, width, 3),
            or "imagenet" is asked of conv4.
        FileNotFoundError: if weights names a file that is not there.
        OSError: if the ImageNet weights can't be downloaded.
    """
    if name not in TRUNKS:
        raise ValueError(
            f"trunk name must be one of {', '.join(TRUNKS)}; got {name!r}."
        )
    sides = input_shape[:2] if isinstance(input_shape, (tuple, list)) else ()
    if (
        len(sides) != 2
        or tuple(input_shape[2:]) != (3,)
        or not all(isinstance(side, int) and side >= 1 for side in sides)
    ):
        raise ValueError(
            f"input_shape must be (height, width, 3); got {input_shape!r}."
        )
    if name == "conv4":
        if weights == "imagenet":
            raise ValueError("conv4 has no ImageNet weights; use weights=None.")
        model = conv4(input_shape)
    else:
        constructor, family = _APPLICATIONS[name]
        features = _features(constructor, input_shape, weights)
        inputs = keras.Input(input_shape, name="images")
        outputs = features(PixelPreprocessing(family)(inputs))
        model = keras.Model(inputs, outputs, name=name)
    if weights not in (None, "imagenet"):
        if not os.path.isfile(weights):
            raise FileNotFoundError(
                f"trunk weights: no file {weights!r}. Give None, 'imagenet' or a file "
                "that this trunk's save_weights wrote."
            )
        model.load_weights(weights)
    return model


def _features(constructor, input_shape, weights):
    weights = "imagenet" if weights == "imagenet" else None
    try:
        return constructor(
            include_top=False, weights=weights, input_shape=tuple(input_shape)
        )
    except Exception as error:
        # Keras raises a plain Exception where it can't download.
        if "URL fetch failure" not in str(error):
            raise
        raise OSError(
            f"the ImageNet weights can't be downloaded ({error}). Give weights=None, "
            "or a weights file."
        ) from error
