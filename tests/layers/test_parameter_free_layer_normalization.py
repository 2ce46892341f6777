import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml._ops import dtype_name
from keras_dml._ops import ops
from keras_dml.layers import ParameterFreeLayerNormalization
from tests.gradients import gradients
from tests.layers.check_layer import check_layer
from tests.layers.reference import reference


def test_does_what_a_layer_must(tmp_path):
    check_layer(
        ParameterFreeLayerNormalization, {"epsilon": 1e-3}, 6, 6, False, tmp_path
    )


def test_equals_pytorch(dtype, tolerance):
    arrays = reference("ln_")
    y = ParameterFreeLayerNormalization(dtype=dtype)(arrays["x"])
    assert dtype_name(y.dtype) == dtype
    y = ops.convert_to_numpy(y)
    np.testing.assert_allclose(y, arrays["y"], tolerance, tolerance)


def test_hand_worked_values():
    # Mean 3, variance (4 + 0 + 4) / 3; with epsilon 4/3 the root is 2.
    y = ParameterFreeLayerNormalization(epsilon=4 / 3)(np.array([[1.0, 3.0, 5.0]]))
    np.testing.assert_allclose(ops.convert_to_numpy(y), [[-1, 0, 1]], atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5), (2, 3, 4, 5)])
def test_equals_the_formula_over_the_last_axis(dtype, tolerance, shape):
    x = np.random.default_rng(0).normal(3, 2, shape)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    y = ParameterFreeLayerNormalization(dtype=dtype)(x)
    expected = (x - mean) / np.sqrt(variance + 1e-5)
    y = ops.convert_to_numpy(y)
    np.testing.assert_allclose(y, expected, tolerance, tolerance)


def test_gradient_equals_the_formula(dtype, tolerance):
    # With s = 1/√(var + ε) and y = s(x - mean): dx = s(g - mean(g) - y mean(g y)).
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(2, 4, 6))
    s = (x.var(-1, keepdims=True) + 1e-5) ** -0.5
    y = s * (x - x.mean(-1, keepdims=True))
    expected = s * (g - g.mean(-1, keepdims=True) - y * (g * y).mean(-1, keepdims=True))
    layer = ParameterFreeLayerNormalization(dtype=dtype)
    weights = ops.convert_to_tensor(g, dtype)
    (found,) = gradients(layer, lambda y: ops.sum(weights * y), x.astype(dtype))
    np.testing.assert_allclose(found, expected, tolerance, tolerance)


def test_constant_and_zero_vectors_give_zeros_and_finite_gradients():
    layer = ParameterFreeLayerNormalization()
    x = np.array([[0.0, 0.0, 0.0], [7.0, 7.0, 7.0]], np.float32)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), np.zeros((2, 3)))
    (found,) = gradients(layer, lambda y: ops.sum(y[:, 0]), x)
    # s(g - mean(g)) with s = 1/√ε and g = (1, 0, 0).
    expected = 1e5**0.5 * np.array([2, -1, -1]) / 3
    np.testing.assert_allclose(found, [expected, expected], 1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision_neither_overflows_nor_loses_the_variance(policy):
    # The squares are beyond float16, and the sum beyond bfloat16's 8 bits.
    x = np.tile([-1000.0, 1000.0], (2, 1024)).astype(np.float32)
    y = ParameterFreeLayerNormalization(dtype=policy)(x)
    y = ops.convert_to_numpy(ops.cast(y, "float32"))
    np.testing.assert_array_equal(y, np.sign(x))


@settings(max_examples=20)
@given(st.floats(-100, 100), st.floats(0.1, 100))
def test_neither_offset_nor_scale_matters(offset, scale):
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    layer = ParameterFreeLayerNormalization(epsilon=1e-12)
    y, same = layer(x), layer(np.float32(scale) * x + np.float32(offset))
    np.testing.assert_allclose(
        ops.convert_to_numpy(same), ops.convert_to_numpy(y), atol=1e-2
    )


def test_mask_is_passed_on():
    x = np.array([[[1.0, 2.0], [0.0, 0.0]]], np.float32)
    y = ParameterFreeLayerNormalization()(keras.layers.Masking()(x))
    mask = ops.convert_to_numpy(y._keras_mask)
    np.testing.assert_array_equal(mask, [[True, False]])


@pytest.mark.parametrize("epsilon", [0, -1e-5, float("nan")])
def test_epsilon_that_is_not_positive_is_refused(epsilon):
    with pytest.raises(ValueError, match=f"epsilon must .* above 0.*got {epsilon}"):
        ParameterFreeLayerNormalization(epsilon=epsilon)
