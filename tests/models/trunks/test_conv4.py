import keras
import numpy as np
import pytest

from keras_dml._ops import ops
from keras_dml.models._trunks.conv4 import conv4


def convolve(x, kernel):
    """3×3 convolution with a border of zeros, one tap at a time."""
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        padded[:, row : row + height, column : column + width] @ kernel[row, column]
        for row in range(3)
        for column in range(3)
    )


def test_equals_the_formula_block_by_block():
    model = conv4((21, 16, 3))
    rng = np.random.default_rng(0)
    weights = [rng.uniform(0.1, 0.2, w.shape) for w in model.get_weights()]
    model.set_weights(weights)
    x = images = rng.integers(0, 256, (2, 21, 16, 3)).astype("float32")
    x = x / 127.5 - 1
    for block in range(4):
        kernel, scale, offset, mean, variance = weights[5 * block : 5 * block + 5]
        x = scale * (convolve(x, kernel) - mean) / np.sqrt(variance + 1e-5) + offset
        x = np.maximum(x, 0)
        height, width = x.shape[1] // 2, x.shape[2] // 2
        x = x[:, : 2 * height, : 2 * width].reshape(2, height, 2, width, 2, 64)
        x = x.max((2, 4))
    assert x.shape == (2, 1, 1, 64)
    np.testing.assert_allclose(ops.convert_to_numpy(model(images)), x, 1e-4)


@pytest.mark.parametrize(
    ("input_shape", "features"),
    [((28, 28, 3), (1, 1)), ((84, 84, 3), (5, 5)), ((32, 50, 1), (2, 3))],
)
def test_sides_are_halved_four_times(input_shape, features):
    assert conv4(input_shape).output_shape == (None, *features, 64)


def test_batch_norm_has_pytorch_settings():
    layers = [
        layer
        for layer in conv4((16, 16, 3)).layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert [(layer.momentum, layer.epsilon) for layer in layers] == [(0.9, 1e-5)] * 4


@pytest.mark.parametrize("input_shape", [(15, 28, 3), (28, 15, 3)])
def test_images_too_small_are_refused(input_shape):
    with pytest.raises(ValueError, match=r"at least 16×16.*got input_shape \(.*15"):
        conv4(input_shape)
