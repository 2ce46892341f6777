"""Convolution and max pool, padded as PyTorch pads them."""

from typing import Any

import keras

from keras_dml._ops import Tensor


def padded_convolution(
    x: Tensor, filters: int, size: int, stride: int = 1, **options: Any
) -> Tensor:
    """A square convolution with size // 2 zeros on all four sides.

    Keras's padding "same" does that at stride 1 only: at stride 2 it pads an even side
    only at its end, which shifts all features by a pixel against PyTorch's.

    Args:
        x: (batch, height, width, channels).
        filters: channels of the result.
        size: side of the kernel, odd.
        stride: stride of the kernel.
        **options: for `keras.layers.Conv2D`; `name` is required.

    Returns:
        (batch, (height - 1) // stride + 1, (width - 1) // stride + 1, filters).
    """
    padding = "same"
    if size > 1 and stride > 1:
        padding = "valid"
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{options['name']}-pad")(x)
    return keras.layers.Conv2D(filters, size, stride, padding, **options)(x)


def ceil_max_pool(x: Tensor, size: int, name: str) -> Tensor:
    """A max pool with stride 2, as PyTorch's `MaxPool2d(size, 2, ceil_mode=True)`.

    Neither padding of Keras is the same: "valid" drops the incomplete window and "same"
    pads both ends of an odd side. The padding here is zeros, which don't change the
    maximum of values that follow a ReLU.

    Args:
        x: (batch, height, width, channels), of known height and width, not negative.
        size: side of the window, 2 or 3.
        name: name of the pooling layer.

    Returns:
        (batch, ceil((height - size) / 2) + 1, ceil((width - size) / 2) + 1, channels).
    """
    missing = [(size - side) % 2 for side in x.shape[1:3]]
    if any(missing):
        padding = tuple((0, count) for count in missing)
        x = keras.layers.ZeroPadding2D(padding, name=f"{name}-pad")(x)
    return keras.layers.MaxPooling2D(size, 2, name=name)(x)
