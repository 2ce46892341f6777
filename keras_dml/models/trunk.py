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
    """
    if name not in TRUNKS:
        raise ValueError(
            f"trunk name must be one of {', '.join(TRUNKS)}; got {name!r}."
        )
    if len(input_shape) != 3 or input_shape[2] != 3:
        raise ValueError(
            f"input_shape must be (height, width, 3); got {tuple(input_shape)}."
        )
    if name == "conv4":
        if weights == "imagenet":
            raise ValueError("conv4 has no ImageNet weights; use weights=None.")
        model = conv4(input_shape)
    else:
        constructor, family = _APPLICATIONS[name]
        features = constructor(
            include_top=False,
            weights="imagenet" if weights == "imagenet" else None,
            input_shape=tuple(input_shape),
        )
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
