"""Max pooling that keeps a last, incomplete window."""

from __future__ import annotations

import keras


def ceil_max_pool(x: keras.KerasTensor, size: int, name: str) -> keras.KerasTensor:
    """PyTorch's `MaxPool2d(size, stride=2, ceil_mode=True)`.

    Neither of Keras's paddings is it: "valid" drops the incomplete window and "same"
    pads both ends of an odd side. The padding is zeros, which can't win over what
    follows a ReLU.

    Args:
        x: (batch, height, width, channels) of a known height and width; not negative.
        size: side of the window, 2 or 3.
        name: name of the pooling layer.

    Returns:
        (batch, ceil((height - size) / 2) + 1, ceil((width - size) / 2) + 1, channels).
    """
    missing = [(size - side) % 2 for side in x.shape[1:3]]
    if any(missing):
        padding = tuple((0, one) for one in missing)
        x = keras.layers.ZeroPadding2D(padding, name=f"{name}-pad")(x)
    return keras.layers.MaxPooling2D(size, 2, name=name)(x)
