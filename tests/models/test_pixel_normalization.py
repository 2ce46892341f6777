import keras
import numpy as np
import pytest

from keras_dml._ops import dtype_name
from keras_dml._ops import ops
from keras_dml.models import PixelNormalization
from tests.gradients import gradients

MEAN, STD = (10.0, 100.0, 50.0), (2.0, 4.0, 5.0)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_hand_worked_pixel(dtype):
    pixel = np.array([[[[30, 60, 255]]]], dtype)
    found = PixelNormalization(MEAN, STD)(pixel)
    assert dtype_name(found.dtype) == "float32"
    found = ops.convert_to_numpy(found)
    np.testing.assert_allclose(found, [[[[10, -10, 41]]]], 1e-6)


def test_hand_worked_pixel_in_bgr_has_mean_and_std_in_that_order():
    pixel = np.array([[[[30, 60, 255]]]], "uint8")
    found = ops.convert_to_numpy(PixelNormalization(MEAN, STD, bgr=True)(pixel))
    np.testing.assert_allclose(found, [[[[122.5, -10, -4]]]], 1e-6)


def test_gradient_reaches_the_pixels():
    pixels = np.ones((1, 2, 1, 3), "float32")
    (found,) = gradients(PixelNormalization(MEAN, STD), ops.sum, pixels)
    np.testing.assert_allclose(found, np.full((1, 2, 1, 3), 1 / np.array(STD)), 1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_leaves_it_in_float32(policy):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        layer = PixelNormalization((0.5,) * 3, (1,) * 3)
    finally:
        keras.mixed_precision.set_global_policy(before)
    pixels = np.arange(256 * 3).reshape(1, 16, 16, 3) % 256
    found = layer(pixels.astype("float32"))
    assert dtype_name(found.dtype) == "float32"
    np.testing.assert_array_equal(ops.convert_to_numpy(found), pixels - 0.5)


def test_saved_and_loaded_in_a_model(tmp_path):
    inputs = keras.Input((5, 4, 3))
    outputs = PixelNormalization(MEAN, STD, bgr=True, name="pixels")(inputs)
    assert outputs.shape == (None, 5, 4, 3)
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3))
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((1, 2), (1, 2, 3), r"one number a channel; got mean=\[1.0, 2.0\], std=\["),
        ((), (), "mean must hold one number a channel; it is empty"),
        (1, 1, "mean must hold one number a channel, .*; got 1"),
        ("123", "123", "mean must hold one number a channel, .*; got '123'"),
        ((1, 2, 3), (1, 0, 1), "std's numbers must be a number above 0; got 0"),
        ((1, 2, 3), (1, -1, 1), "std's numbers must be a number above 0; got -1"),
        ((1, np.nan, 3), (1, 1, 1), "mean's numbers must be a finite number; got nan"),
        ((1, 2, 3), (1, np.inf, 1), "std's numbers must be a number above 0; got inf"),
    ],
)
def test_numbers_that_can_not_be_used_are_refused(mean, std, message):
    with pytest.raises(ValueError, match=message):
        PixelNormalization(mean, std)
