import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml._ops import dtype_name
from keras_dml._ops import ops
from keras_dml.layers import L2Normalization
from keras_dml.layers import l2_normalize
from tests.gradients import gradients
from tests.layers.check_layer import check_layer


def test_does_what_a_layer_must(tmp_path):
    check_layer(L2Normalization, {}, 6, 6, True, tmp_path)


def test_hand_worked_values():
    x = ops.convert_to_tensor([[3.0, 4.0], [0.0, -0.5], [0.0, 0.0]])
    y = ops.convert_to_numpy(l2_normalize(x))
    np.testing.assert_allclose(y, [[0.6, 0.8], [0, -1], [0, 0]], atol=1e-7)


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5)])
def test_last_axis_has_length_1(dtype, tolerance, shape):
    x = np.random.default_rng(0).normal(size=shape)
    y = L2Normalization(dtype=dtype)(x)
    assert dtype_name(y.dtype) == dtype
    expected = x / np.linalg.norm(x, axis=-1, keepdims=True)
    y = ops.convert_to_numpy(y)
    np.testing.assert_allclose(y, expected, tolerance, tolerance)


def test_gradient_equals_the_formula(dtype, tolerance):
    # dx = (g - y (g·y)) / |x|.
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(2, 4, 6))
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    y = x / length
    expected = (g - y * (g * y).sum(-1, keepdims=True)) / length
    layer = L2Normalization(dtype=dtype)
    weights = ops.convert_to_tensor(g, dtype)
    (found,) = gradients(layer, lambda y: ops.sum(weights * y), x.astype(dtype))
    np.testing.assert_allclose(found, expected, tolerance, tolerance)


def test_zero_vector_has_a_finite_gradient():
    (found,) = gradients(
        L2Normalization(), ops.sum, np.array([[0, 0], [3, 4]], np.float32)
    )
    # At zero the length counts as 1e-6: dx = g / 1e-6.
    np.testing.assert_allclose(found, [[1e6, 1e6], [0.032, -0.024]], 1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int32", "uint8"])
def test_other_dtypes_are_computed_in_float32(dtype):
    x = ops.cast(ops.convert_to_tensor([[180.0, 240.0]]), dtype)
    y = l2_normalize(x)
    assert dtype_name(y.dtype) == "float32"
    np.testing.assert_allclose(ops.convert_to_numpy(y), [[0.6, 0.8]], 1e-6)


@settings(max_examples=20)
@given(st.integers(-5, 15))
def test_length_does_not_matter(exponent):
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    y = ops.convert_to_numpy(l2_normalize(x))
    scaled = ops.convert_to_numpy(l2_normalize(x * np.float32(10.0**exponent)))
    np.testing.assert_allclose(scaled, y, rtol=1e-5)


def test_mask_is_passed_on():
    x = np.array([[[1.0, 2.0], [0.0, 0.0]]], np.float32)
    y = L2Normalization()(keras.layers.Masking()(x))
    mask = ops.convert_to_numpy(y._keras_mask)
    np.testing.assert_array_equal(mask, [[True, False]])


def test_lists_are_taken_too():
    y = ops.convert_to_numpy(l2_normalize([[3.0, 4.0]]))
    np.testing.assert_allclose(y, [[0.6, 0.8]], atol=1e-7)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1e-7, 0.1), (1.1e-6, 1), (1.8e19, 1), (1.9e19, 0)],
)
def test_range_in_which_vectors_come_out_with_length_1(length, expected):
    y = l2_normalize(np.array([[length, 0.0]], "float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(y)[0, 0], expected, 1e-5)
