"""Trunks from KerasHub's presets."""

import pathlib

import keras

from keras_dml._ops import IS_KERAS_2

# Their first token sums up the image, as in their papers' own classification.
_CLASS_TOKEN_BACKBONES = ("DINOV2Backbone", "DINOV3Backbone")


def hub_trunk(
    preset: str, input_shape: tuple[int, int, int], pretrained: bool
) -> keras.Model:
    """The image backbone of a KerasHub preset, with that preset's preprocessing.

    The scale and offset of the preset's image converter become a layer of the model;
    its resizing is not used, as images come in their size. Feature maps are given as
    they are (of a backbone that gives one a stage, the last). The tokens of a vision
    transformer are pooled as KerasHub's image classifier of that preset pools them,
    by taking the class token or their mean. DINOv2 and DINOv3, for which KerasHub has
    no classifier, give their class token.

    Args:
        preset: a name of `keras_hub.models.Backbone.presets`, a handle such as
            "kaggle://…" or "hf://…", or the folder of a preset, written with its
            slash, as in "./folder". What is not a folder is downloaded and cached by
            KerasHub.
        input_shape: (height, width, 3) of the images. A vision transformer whose
            position embeddings can't be adapted takes those of its own size alone.
        pretrained: whether to load the preset's weights; otherwise they are random.

    Returns:
        A model from (batch, height, width, 3) RGB pixels, 0 to 255, to
        (batch, rows, columns, channels) or (batch, dim) features.

    Raises:
        ImportError: if KerasHub is not installed, or this is Keras 2.15.
        FileNotFoundError: if there is no such folder.
        ValueError: if there is no such preset, it has no backbone from one image to
            features, doesn't say how pixels are prepared, or takes another size.
        OSError: if it can't be downloaded.

    Reference:
        [KerasHub](https://keras.io/keras_hub/presets/)
    """
    if IS_KERAS_2:
        raise ImportError(
            f'trunk "hub:{preset}" needs KerasHub, which runs on Keras 3, not beside '
            "TensorFlow Addons. Use a trunk of keras_dml.models.TRUNKS, or Keras 3."
        )
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError(
            f'trunk "hub:{preset}" needs KerasHub ({error}): '
            'pip install "keras_dml[hub]"'
        ) from error

    preset = _found(preset, keras_hub.models.Backbone.presets)
    try:
        # First, as it is small, and no text model has one.
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(
            f"KerasHub preset {preset!r} doesn't say how to prepare pixels, so it is "
            f"not one of an image model, or not whole: {error}"
        ) from error
    except OSError as error:
        raise _unreadable(preset, error) from error
    backbone = _backbone(keras_hub, preset, tuple(input_shape), pretrained)

    images = keras.Input(input_shape, name="images")
    x = keras.layers.Rescaling(
        1.0 if converter.scale is None else converter.scale,
        0.0 if converter.offset is None else converter.offset,
        dtype="float32",
        name="preprocessing",
    )(images)
    if isinstance(backbone.input, dict):
        x = dict.fromkeys(backbone.input, x)
    x = backbone(x)
    if isinstance(x, dict):
        x = x[backbone.stage_names[-1]]
    if len(x.shape) == 3:
        x = _pooled(keras_hub, preset, backbone, x)
    return keras.Model(images, x, name="hub_trunk")


def _found(preset, builtin):
    """The preset as KerasHub takes it, once known to be one or to be downloaded."""
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
    shapes = [tuple(tensor.shape) for tensor in backbone.inputs]
    ranks = [len(tensor.shape) for tensor in backbone.outputs]
    if (
        [shape[3:] for shape in shapes] != [(3,)]
        or (len(ranks) > 1 and not hasattr(backbone, "stage_names"))
        or ranks[-1] not in (3, 4)
    ):
        raise ValueError(
            f"KerasHub preset {preset!r} has a {type(backbone).__name__}, which does "
            "not turn one image into features."
        )
    own = shapes[0][1:]
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
    if type(backbone).__name__ in _CLASS_TOKEN_BACKBONES:
        return tokens[:, 0]
    try:
        classifier = keras_hub.models.ImageClassifier.from_preset(
            preset, load_weights=False, backbone=backbone, num_classes=2
        )
    except ValueError as error:
        raise ValueError(
            f"KerasHub preset {preset!r} has a {type(backbone).__name__}, whose tokens "
            "KerasHub has no image classifier to pool."
        ) from error
    if classifier.pooling == "token":
        return tokens[:, 0]
    return keras.layers.GlobalAveragePooling1D(name="token_mean")(tokens)


def _unreadable(preset, error):
    if pathlib.Path(preset).is_dir():
        return OSError(f"KerasHub preset {preset!r} can't be read: {error}")
    return OSError(
        f"KerasHub preset {preset!r} can't be downloaded ({error}). Save it "
        "where it can, and name its folder, as in hub:./folder."
    )
