"""ResNet-50 as torchvision has it."""

import keras

from keras_dml.models._trunks.torch_layers import padded_convolution
from keras_dml.models.pixel_normalization import PixelNormalization

# ImageNet's mean and standard deviation, as torchvision has them, times 255.
_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

# (filters, blocks) of each stage.
_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


def resnet50(input_shape: tuple[int, int, int]) -> keras.Model:
    """ResNet-50 v1.5: the stride is on the 3×3 convolution of a block.

    `keras.applications.ResNet50` is v1: its stride is on the first 1×1, its
    convolutions have biases and its batch norms an epsilon of 1.001e-5 and a momentum
    of 0.99. Here batch norm has PyTorch's settings (Keras's momentum 0.9, epsilon
    1e-5). Weights start as torchvision's do: kernels from N(0, 2 / fan_out), batch
    norm from scale 1 and offset 0.

    Layers have the names of PyTorch's modules, with "-" for "."; the layer "layer3-5"
    is the output of that block.

    Args:
        input_shape: (height, width, 3).

    Returns:
        A model from (batch, height, width, 3) RGB pixels from 0 to 255 to (batch,
        height / 32, width / 32, 2048) features, rounded up.

    References:
        [He et al., 2015](https://arxiv.org/abs/1512.03385), table 1;
        torchvision.models.resnet50.
    """
    images = keras.Input(input_shape, name="images")
    x = PixelNormalization(_MEAN, _STD, name="pixels")(images)
    x = _convolution(x, 64, 7, "conv1", stride=2)
    x = _batch_norm(x, "bn1")
    x = keras.layers.ReLU(name="relu")(x)
    # After a ReLU, padding with zeros does the same as PyTorch's with -inf.
    x = keras.layers.ZeroPadding2D(1, name="maxpool-pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="maxpool")(x)
    for stage, (filters, blocks) in enumerate(_STAGES, start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _bottleneck(x, filters, stride, f"layer{stage}-{block}")
    return keras.Model(images, x, name="resnet50")


def _bottleneck(x, filters, stride, name):
    shortcut = x
    x = _convolution(x, filters, 1, f"{name}-conv1")
    x = _batch_norm(x, f"{name}-bn1")
    x = keras.layers.ReLU(name=f"{name}-relu1")(x)
    x = _convolution(x, filters, 3, f"{name}-conv2", stride)
    x = _batch_norm(x, f"{name}-bn2")
    x = keras.layers.ReLU(name=f"{name}-relu2")(x)
    x = _convolution(x, 4 * filters, 1, f"{name}-conv3")
    x = _batch_norm(x, f"{name}-bn3")
    if shortcut.shape[-1] != 4 * filters:
        shortcut = _convolution(
            shortcut, 4 * filters, 1, f"{name}-downsample-0", stride
        )
        shortcut = _batch_norm(shortcut, f"{name}-downsample-1")
    x = keras.layers.Add(name=f"{name}-add")([x, shortcut])
    return keras.layers.ReLU(name=name)(x)


def _convolution(x, filters, size, name, stride=1):
    return padded_convolution(
        x,
        filters,
        size,
        stride,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(
            2, mode="fan_out", distribution="untruncated_normal"
        ),
        name=name,
    )


def _batch_norm(x, name):
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)
