"""A convolution padded as PyTorch pads it."""

from __future__ import annotations

import keras


def padded_convolution(
    x: keras.KerasTensor, filters: int, size: int, stride: int = 1, **options
) -> keras.KerasTensor:
    """A square convolution with size // 2 zeros on all four sides.

    Keras's "same" does that at stride 1 only: at stride 2 it pads an even side at its
    end alone, and shifts all features by a pixel against PyTorch's.

    Args:
        x: (batch, height, width, channels).
        filters: channels of the result.
        size: side of the kernel, odd.
        stride: step of the kernel.
        **options: for `keras.layers.Conv2D`; `name` is needed.

    Returns:
        (batch, (height - 1) // stride + 1, (width - 1) // stride + 1, filters).
    """
    padding = "same"
    if size > 1 and stride > 1:
        padding = "valid"
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{options['name']}-pad")(x)
    return keras.layers.Conv2D(filters, size, stride, padding, **options)(x)
