import numpy as np
import pytest

from keras_dml._ops import dtype_name
from keras_dml._ops import ops
from keras_dml.layers import GeneralizedMeanPooling
from tests.gradients import gradients
from tests.layers.check_layer import check_layer


def test_does_what_a_layer_must(tmp_path):
    check_layer(GeneralizedMeanPooling, {"p": 2.5}, 6, 6, False, tmp_path, (2, 3))


def test_hand_worked_values():
    # (1³ + 2³ + 3³) / 3 = 12; a feature below 1e-6 counts as that.
    x = np.array([[[1.0, -5.0], [2.0, 0.0], [3.0, -7.0]]], np.float32)
    y = ops.convert_to_numpy(GeneralizedMeanPooling()(x))
    np.testing.assert_allclose(y, [[12 ** (1 / 3), 1e-6]], 1e-5)


def in_torch(x, p, g):
    """GeM and its gradients by x and p, as the paper's authors wrote it in PyTorch."""
    torch = pytest.importorskip("torch")
    x = torch.tensor(x, requires_grad=True)
    p = torch.tensor(p, dtype=x.dtype, requires_grad=True)
    axes = tuple(range(1, x.ndim - 1))
    y = x.clamp(min=1e-6).pow(p).mean(axes).pow(1 / p)
    found = torch.autograd.grad((y * torch.tensor(g)).sum(), [x, p])
    return [array.detach().numpy() for array in (y, *found)]


@pytest.mark.parametrize("shape", [(5, 7, 4), (5, 3, 2, 4), (2, 2, 3, 2, 4)])
@pytest.mark.parametrize("p", [1.0, 3.0, 6.5])
def test_value_and_gradients_equal_pytorchs(shape, p, dtype, tolerance):
    rng = np.random.default_rng(0)
    x = rng.normal(0.5, 1, shape)
    g = rng.normal(size=(shape[0], shape[-1]))
    expected, by_x, by_p = in_torch(x, p, g)
    layer = GeneralizedMeanPooling(p, dtype=dtype)
    y = layer(x.astype(dtype))
    assert dtype_name(y.dtype) == dtype
    np.testing.assert_allclose(ops.convert_to_numpy(y), expected, tolerance, tolerance)
    weights = ops.convert_to_tensor(g, dtype)
    found = gradients(layer, lambda y: ops.sum(weights * y), x.astype(dtype))
    assert np.abs(by_p) > 0.01
    for array, value in zip(found, (by_x, by_p), strict=True):
        np.testing.assert_allclose(array, value, tolerance, tolerance)


@pytest.mark.parametrize(
    ("shape", "mask_axes"), [((4, 5, 3), 2), ((4, 5, 2, 3), 2), ((4, 5, 2, 3), 3)]
)
def test_positions_that_a_mask_leaves_out_are_not_pooled(shape, mask_axes):
    rng = np.random.default_rng(0)
    x = rng.normal(0.5, 1, shape).astype(np.float32)
    mask = rng.random(shape[:mask_axes]) < 0.5
    mask[:, 0] = True
    mask[3] = False
    layer = GeneralizedMeanPooling(2.5)
    y = ops.convert_to_numpy(layer(x, mask=mask))
    kept = [np.maximum(some[where], 1e-6) for some, where in zip(x, mask, strict=True)]
    kept = [some.reshape(-1, 3) for some in kept]
    for pooled, some in zip(y[:3], kept, strict=False):
        np.testing.assert_allclose(pooled, (some**2.5).mean(0) ** 0.4, 1e-5)
    np.testing.assert_allclose(y[3], 1e-6, 1e-5)
    # What is left out has no gradient, however large, and a row without any is finite.
    x[~mask] = 1e30

    class Masked(GeneralizedMeanPooling):
        def call(self, x):
            return super().call(x, ops.convert_to_tensor(mask))

    by_x, by_p = gradients(Masked(2.5), ops.sum, x)
    assert not by_x[~mask].any()
    assert np.isfinite(by_x).all()
    assert np.isfinite(by_p)


@pytest.mark.parametrize("power", [1, 1000])
def test_power_runs_from_the_average_to_the_maximum(power):
    x = np.random.default_rng(0).uniform(0.1, 1, (3, 6, 6, 4)).astype(np.float32)
    y = ops.convert_to_numpy(GeneralizedMeanPooling(power)(x))
    expected = x.mean((1, 2)) if power == 1 else x.max((1, 2))
    np.testing.assert_allclose(y, expected, 1e-5 if power == 1 else 0.01)


def test_features_of_any_size_have_finite_values_and_gradients():
    # The cubes of these are beyond float32 on both sides.
    x = np.array([[[1e-30, 1e20, 0], [0, 3e20, 1e-5]]], np.float32)
    layer = GeneralizedMeanPooling(8)
    expected = np.array([[1e-6, 1e20 * ((1 + 3**8) / 2) ** (1 / 8), 1e-5 / 2**0.125]])
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, 1e-5)
    by_x, by_p = gradients(layer, ops.sum, x)
    assert np.isfinite(by_x).all()
    assert np.isfinite(by_p)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision_computes_in_float32_with_a_power_of_float32(policy):
    # The cubes are beyond float16, the sum of a thousand beyond bfloat16's 8 bits.
    x = np.full((2, 1001, 1), 100, np.float32)
    x[:, 0] = 1000
    layer = GeneralizedMeanPooling(3, dtype=policy)
    y = layer(x)
    assert dtype_name(layer.p.dtype) == "float32"
    assert dtype_name(y.dtype) == layer.compute_dtype
    expected = ((1e9 + 1000 * 1e6) / 1001) ** (1 / 3)
    y = ops.convert_to_numpy(ops.cast(y, "float32"))
    np.testing.assert_allclose(y, np.full((2, 1), expected), 0.004)


@pytest.mark.parametrize("p", [0, -1, float("nan"), None])
def test_power_that_is_not_positive_is_refused(p):
    with pytest.raises(ValueError, match=f"p must be a number above 0.*got {p}"):
        GeneralizedMeanPooling(p)


def test_input_without_an_axis_to_pool_is_refused():
    with pytest.raises(ValueError, match=r"an axis to pool; got shape \(2, 3\)"):
        GeneralizedMeanPooling()(np.ones((2, 3), np.float32))
