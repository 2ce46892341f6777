"""GoogLeNet as torchvision has it."""

import keras

from keras_dml.models._trunks.torch_layers import ceil_max_pool
from keras_dml.models._trunks.torch_layers import padded_convolution
from keras_dml.models.pixel_normalization import PixelNormalization

# {block: (filters of the 1×1, (reduction, filters) of the 3×3, the same of the "5×5",
# filters of the pool)}.
_BLOCKS = {
    "3a": (64, (96, 128), (16, 32), 32),
    "3b": (128, (128, 192), (32, 96), 64),
    "4a": (192, (96, 208), (16, 48), 64),
    "4b": (160, (112, 224), (24, 64), 64),
    "4c": (128, (128, 256), (24, 64), 64),
    "4d": (112, (144, 288), (32, 64), 64),
    "4e": (256, (160, 320), (32, 128), 128),
    "5a": (256, (160, 320), (32, 128), 128),
    "5b": (384, (192, 384), (48, 128), 128),
}


def googlenet(input_shape: tuple[int, int, int]) -> keras.Model:
    """GoogLeNet with batch normalization, without its auxiliary classifiers.

    It follows torchvision where that departs from the publication, since the published
    weights were trained with it: batch norm instead of biases, and a 3×3 where the
    "5×5" should be. Pixels are scaled to [-1, 1], which is what its `transform_input`
    makes of ImageNet's mean and standard deviation. Batch norm has its settings
    (Keras's momentum 0.9, epsilon 1e-3). Weights start as its `init_weights` does:
    kernels from N(0, 0.01²), batch norm from scale 1 and offset 0.

    Layers have the names of PyTorch's modules, with "-" for "."; the layer
    "inception4e" is the output of that block.

    Args:
        input_shape: (height, width, 3); at least 15×15.

    Returns:
        A model from (batch, height, width, 3) RGB pixels from 0 to 255 to
        (batch, rows, columns, 1024) features, 7×7 for 224×224 pixels.

    Raises:
        ValueError: if the images are smaller than 15×15.

    References:
        [Szegedy et al., 2014](https://arxiv.org/abs/1409.4842), table 1;
        torchvision.models.googlenet.
    """
    if min(input_shape[:2]) < 15:
        raise ValueError(
            "googlenet needs images of at least 15×15 pixels; got input_shape "
            f"{tuple(input_shape)}."
        )
    images = keras.Input(input_shape, name="images")
    x = PixelNormalization((127.5,) * 3, (127.5,) * 3, name="pixels")(images)
    x = _convolution(x, 64, 7, "conv1", stride=2)
    x = ceil_max_pool(x, 3, "maxpool1")
    x = _convolution(x, 64, 1, "conv2")
    x = _convolution(x, 192, 3, "conv3")
    x = ceil_max_pool(x, 3, "maxpool2")
    for block, filters in _BLOCKS.items():
        if block == "4a":
            x = ceil_max_pool(x, 3, "maxpool3")
        elif block == "5a":
            x = ceil_max_pool(x, 2, "maxpool4")
        x = _inception(x, *filters, name=f"inception{block}")
    return keras.Model(images, x, name="googlenet")


def _inception(x, ones, threes, fives, pooled, name):
    branches = [_convolution(x, ones, 1, f"{name}-branch1")]
    for branch, (reduced, filters) in (("branch2", threes), ("branch3", fives)):
        y = _convolution(x, reduced, 1, f"{name}-{branch}-0")
        branches.append(_convolution(y, filters, 3, f"{name}-{branch}-1"))
    y = keras.layers.MaxPooling2D(3, 1, padding="same", name=f"{name}-branch4-0")(x)
    branches.append(_convolution(y, pooled, 1, f"{name}-branch4-1"))
    return keras.layers.Concatenate(name=name)(branches)


def _convolution(x, filters, size, name, stride=1):
    """Convolution, batch norm and ReLU."""
    x = padded_convolution(
        x,
        filters,
        size,
        stride,
        use_bias=False,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        name=f"{name}-conv",
    )
    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}-bn")(
        x
    )
    return keras.layers.ReLU(name=name)(x)
