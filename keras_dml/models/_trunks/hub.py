"""Trunks from KerasHub's presets."""

import pathlib
from typing import Any

import keras

from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import Tensor
from keras_dml._ops import import_extra

# Their first token is the class token, which their papers classify by.
_CLASS_TOKEN_BACKBONES = ("DINOV2Backbone", "DINOV3Backbone")


def hub_trunk(
    preset: str, input_shape: tuple[int, int, int], pretrained: bool
) -> keras.Model:
    """Builds the image backbone of a KerasHub preset, with the preset's preprocessing.

    The scale and offset of the preset's image converter become a layer of the model;
    its resizing is not used, as images already have their size. A feature map is
    returned as it is; of a backbone with one for each stage, the last. The tokens of a
    vision transformer are pooled as KerasHub's image classifier of that preset does:
    the class token, or the mean of the tokens. DINOv2 and DINOv3, for which KerasHub
    has no classifier, return their class token.

    Args:
        preset: a name of `keras_hub.models.Backbone.presets`, a handle such as
            "kaggle://…" or "hf://…", or the folder of a preset, written with a slash,
            as in "./folder". KerasHub downloads and caches all but a folder.
        input_shape: (height, width, 3) of the images. A vision transformer whose
            position embeddings can't be resized takes only images of its own size.
        pretrained: whether to load the preset's weights; random weights otherwise.

    Returns:
        A model from (batch, height, width, 3) RGB pixels, 0 to 255, to
        (batch, rows, columns, channels) or (batch, dim) features.

    Raises:
        ImportError: if KerasHub is not installed, or this is Keras 2.15.
        FileNotFoundError: if there is no such folder.
        ValueError: if there is no such preset, it has no backbone from one image to
            features, has no image converter, or takes images of another size.
        OSError: if the preset can't be downloaded or read.

    Reference:
        [KerasHub](https://keras.io/keras_hub/presets/)
    """
    if IS_KERAS_2:
        raise ImportError(
            f'trunk "hub:{preset}" needs KerasHub, which runs on Keras 3, not beside '
            "TensorFlow Addons. Use a trunk of keras_dml.models.TRUNKS, or Keras 3."
        )
    keras_hub = import_extra("keras_hub", f'trunk "hub:{preset}"', "hub")
    preset = _resolved_preset(preset, keras_hub.models.Backbone.presets)
    try:
        # Before the backbone, as it is small, and no text model has one.
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"KerasHub preset {preset!r} doesn't say how to prepare pixels, so it is "
            f"not one of an image model, or is incomplete: {error}"
        ) from error
    except OSError as error:
        raise _unreadable(preset, error) from error
    backbone = _backbone(keras_hub, preset, tuple(input_shape), pretrained)

    images = keras.Input(input_shape, name="images")
    x = backbone_features(backbone, pixel_scaling(converter, "preprocessing")(images))
    if len(x.shape) == 3:
        x = _pooled(keras_hub, preset, backbone, x)
    return keras.Model(images, x, name="hub_trunk")


def is_image_backbone(backbone: keras.Model) -> bool:
    """Whether a KerasHub backbone turns one RGB image into features of one kind.

    Those of several stages count, of which `backbone_features` gives the last.
    """
    shapes = [tuple(tensor.shape) for tensor in backbone.inputs]
    ranks = [len(tensor.shape) for tensor in backbone.outputs]
    return (
        [shape[3:] for shape in shapes] == [(3,)]
        and (len(ranks) == 1 or hasattr(backbone, "stage_names"))
        and ranks[-1] in (3, 4)
    )


def pixel_scaling(converter: Any, name: str) -> keras.layers.Layer:
    """Makes a layer of what a KerasHub image converter does to pixels, in float32.

    Args:
        converter: a `keras_hub.layers.ImageConverter`. Its resizing is left out, as
            images already have their size.
        name: that of the layer.
    """
    return keras.layers.Rescaling(
        1.0 if converter.scale is None else converter.scale,
        0.0 if converter.offset is None else converter.offset,
        dtype="float32",
        name=name,
    )


def backbone_features(backbone: keras.Model, pixels: Tensor) -> Tensor:
    """Applies a KerasHub backbone; of one with features for each stage, the last's."""
    if isinstance(backbone.input, dict):
        pixels = dict.fromkeys(backbone.input, pixels)
    features = backbone(pixels)
    if isinstance(features, dict):
        return features[backbone.stage_names[-1]]
    return features


def _resolved_preset(preset, builtin):
    """The preset as KerasHub takes it: a built-in name, a handle or a folder."""
    if preset in builtin or "://" in preset:
        return preset
    if "/" not in preset:
        raise ValueError(
            f"KerasHub has no preset {preset!r}. Give a name of "
            "keras_hub.models.Backbone.presets, a kaggle:// or hf:// handle, or a "
            f"folder, as in hub:./{preset}."
        )
    folder = pathlib.Path(preset).expanduser()
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{str(folder)!r} is not the folder of a KerasHub preset: it has no "
            "config.json."
        )
    return str(folder)


def _backbone(keras_hub, preset, input_shape, pretrained):
    """The preset's backbone, resized to the input shape where it can be."""

    def load(**options):
        try:
            return keras_hub.models.Backbone.from_preset(
                preset, load_weights=pretrained, **options
            )
        except FileNotFoundError as error:
            raise ValueError(f"KerasHub preset {preset!r}: {error}") from error
        except OSError as error:
            raise _unreadable(preset, error) from error

    backbone = load()
    if not is_image_backbone(backbone):
        raise ValueError(
            f"KerasHub preset {preset!r} has a {type(backbone).__name__}, which does "
            "not turn one image into features."
        )
    own = tuple(backbone.inputs[0].shape[1:])
    if own in ((None, None, 3), input_shape):
        return backbone
    try:
        return load(image_shape=input_shape)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"KerasHub preset {preset!r} takes images of {own[0]}×{own[1]} pixels, and "
            f"its weights don't fit {input_shape[0]}×{input_shape[1]}. Use "
            f"input_shape={own}."
        ) from error


def _pooled(keras_hub, preset, backbone, tokens):
    """The class token of a vision transformer, or the mean of its tokens."""
    if type(backbone).__name__ in _CLASS_TOKEN_BACKBONES:
        return tokens[:, 0]
    try:
        classifier = keras_hub.models.ImageClassifier.from_preset(
            preset, load_weights=False, backbone=backbone, num_classes=2
        )
    except ValueError as error:
        raise ValueError(
            f"KerasHub preset {preset!r} has a {type(backbone).__name__}, for which "
            "KerasHub has no image classifier that says how to pool its tokens."
        ) from error
    if classifier.pooling == "token":
        return tokens[:, 0]
    return keras.layers.GlobalAveragePooling1D(name="token_mean")(tokens)


def _unreadable(preset, error):
    if pathlib.Path(preset).is_dir():
        return OSError(f"KerasHub preset {preset!r} can't be read: {error}")
    return OSError(
        f"KerasHub preset {preset!r} can't be downloaded ({error}). Save it on a "
        "machine that can, and name its folder, as in hub:./folder."
    )
