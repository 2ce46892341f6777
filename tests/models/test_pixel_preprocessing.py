import keras
import numpy as np
import pytest

from keras_dml._ops import dtype_name
from keras_dml._ops import ops
from keras_dml.models import PixelPreprocessing

FAMILIES = [
    name
    for name in dir(keras.applications)
    if hasattr(getattr(keras.applications, name), "preprocess_input")
]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3))


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_function_of_keras_on_numpy_arrays(family, dtype, images):
    function = getattr(keras.applications, family).preprocess_input
    expected = function(images.astype("float32"))
    given = ops.convert_to_tensor(images, dtype)
    found = PixelPreprocessing(family)(given)
    assert dtype_name(found.dtype) == "float32"
    found = ops.convert_to_numpy(found)
    np.testing.assert_allclose(found, expected, 1e-5, 1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(given), images)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("mobilenet_v2", [-1, 0.6, 1]),
        ("resnet", [255 - 103.939, 204 - 116.779, 0 - 123.68]),
        (
            "densenet",
            [-0.485 / 0.229, (0.8 - 0.456) / 0.224, (1 - 0.406) / 0.225],
        ),
        ("efficientnet", [0, 204, 255]),
    ],
)
def test_hand_worked_pixel(family, expected):
    pixel = np.array([[[[0.0, 204.0, 255.0]]]])
    found = ops.convert_to_numpy(PixelPreprocessing(family)(pixel))
    np.testing.assert_allclose(found[0, 0, 0], expected, 1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_leaves_it_in_float32(policy, images):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        layer = PixelPreprocessing("mobilenet")
    finally:
        keras.mixed_precision.set_global_policy(before)
    found = layer(images.astype("float32"))
    assert dtype_name(found.dtype) == "float32"
    found = ops.convert_to_numpy(found)
    np.testing.assert_allclose(found, images / 127.5 - 1, atol=1e-6)


def test_saved_and_loaded_in_a_model(images, tmp_path):
    inputs = keras.Input((5, 4, 3))
    outputs = PixelPreprocessing("resnet", name="pixels")(inputs)
    assert outputs.shape == (None, 5, 4, 3)
    model = keras.Model(inputs, outputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("pixels").family == "resnet"
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )


def test_unknown_family_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"family must be .*resnet.*got 'ResNet'"):
        PixelPreprocessing("ResNet")
