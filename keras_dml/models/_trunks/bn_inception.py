"""BN-Inception as it was converted from Caffe."""

import keras

from keras_dml.models._trunks.torch_layers import ceil_max_pool
from keras_dml.models._trunks.torch_layers import padded_convolution
from keras_dml.models.pixel_normalization import PixelNormalization

# {block: (filters of the 1×1, (reduction, filters) of the 3×3, the same of the double
# 3×3, (kind, filters) of the pool)}. A block with None in place of the first and the
# last has stride 2.
_BLOCKS = {
    "3a": (64, (64, 64), (64, 96), ("average", 32)),
    "3b": (64, (64, 96), (64, 96), ("average", 64)),
    "3c": (None, (128, 160), (64, 96), None),
    "4a": (224, (64, 96), (96, 128), ("average", 128)),
    "4b": (192, (96, 128), (96, 128), ("average", 128)),
    "4c": (160, (128, 160), (128, 160), ("average", 128)),
    "4d": (96, (128, 192), (160, 192), ("average", 128)),
    "4e": (None, (128, 192), (192, 256), None),
    "5a": (352, (192, 320), (160, 224), ("average", 128)),
    "5b": (352, (192, 320), (192, 224), ("max", 128)),
}


def bn_inception(input_shape: tuple[int, int, int]) -> keras.Model:
    """BN-Inception (Inception v2), the trunk of much of the metric-learning literature.

    It is the network of the `pretrainedmodels` package, whose weights came from
    Caffe: pixels in the order blue, green, red with (104, 117, 128) subtracted,
    biases in the convolutions although batch norm follows, average pools that include
    their padding of zeros, and a max pool in the last block. Batch norm has PyTorch's
    settings (Keras's momentum 0.9, epsilon 1e-5). Kernels start from
    U(-1/√fan_in, 1/√fan_in) as PyTorch's do, biases from 0, since batch norm cancels
    them; batch norm starts from scale 1 and offset 0.

    Layers have the names of PyTorch's modules; the layer "inception_4e_output" is the
    output of that block.

    Args:
        input_shape: (height, width, 3). (side + 1) mod 32 must be below 8, as for
            64, 96, 224 and 256: at other sides the branches of a block with stride 2
            differ by a pixel, in PyTorch too.

    Returns:
        A model from (batch, height, width, 3) RGB pixels from 0 to 255 to
        (batch, (height + 1) // 32, (width + 1) // 32, 1024) features.

    Raises:
        ValueError: if a side does not meet this condition.

    References:
        [Ioffe & Szegedy, 2015](https://arxiv.org/abs/1502.03167), figure 5;
        pretrainedmodels.models.bninception.
    """
    if not all(side >= 31 and (side + 1) % 32 < 8 for side in input_shape[:2]):
        raise ValueError(
            "bn_inception needs images whose sides, plus 1, leave less than 8 when "
            f"divided by 32, such as 64, 96, 224 and 256; got input_shape "
            f"{tuple(input_shape)}."
        )
    images = keras.Input(input_shape, name="images")
    x = PixelNormalization((104, 117, 128), (1, 1, 1), bgr=True, name="pixels")(images)
    x = _convolution(x, 64, 7, "conv1", "7x7", stride=2, suffix="_s2")
    x = ceil_max_pool(x, 3, "pool1_3x3_s2")
    x = _convolution(x, 64, 1, "conv2", "3x3_reduce")
    x = _convolution(x, 192, 3, "conv2", "3x3")
    x = ceil_max_pool(x, 3, "pool2_3x3_s2")
    for block, filters in _BLOCKS.items():
        x = _inception(x, *filters, name=f"inception_{block}")
    return keras.Model(images, x, name="bn_inception")


def _inception(x, ones, threes, doubles, pool, name):
    stride = 1 if ones else 2
    branches = [_convolution(x, ones, 1, name, "1x1")] if ones else []
    reduced, filters = threes
    y = _convolution(x, reduced, 1, name, "3x3_reduce")
    branches.append(_convolution(y, filters, 3, name, "3x3", stride))
    reduced, filters = doubles
    y = _convolution(x, reduced, 1, name, "double_3x3_reduce")
    y = _convolution(y, filters, 3, name, "double_3x3_1")
    branches.append(_convolution(y, filters, 3, name, "double_3x3_2", stride))
    if pool:
        kind, filters = pool
        y = _pool(x, kind, f"{name}_pool")
        branches.append(_convolution(y, filters, 1, name, "pool_proj"))
    else:
        branches.append(ceil_max_pool(x, 3, f"{name}_pool"))
    return keras.layers.Concatenate(name=f"{name}_output")(branches)


def _pool(x, kind, name):
    """A 3×3 pool with stride 1."""
    if kind == "max":
        return keras.layers.MaxPooling2D(3, 1, padding="same", name=name)(x)
    # Keras leaves its own padding out of the average; PyTorch includes it.
    x = keras.layers.ZeroPadding2D(1, name=f"{name}-pad")(x)
    return keras.layers.AveragePooling2D(3, 1, name=name)(x)


def _convolution(x, filters, size, block, name, stride=1, suffix=""):
    """Convolution, batch norm and ReLU."""
    x = padded_convolution(
        x,
        filters,
        size,
        stride,
        kernel_initializer=keras.initializers.VarianceScaling(
            1 / 3, mode="fan_in", distribution="uniform"
        ),
        name=f"{block}_{name}{suffix}",
    )
    x = keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, name=f"{block}_{name}{suffix}_bn"
    )(x)
    return keras.layers.ReLU(name=f"{block}_relu_{name}")(x)
