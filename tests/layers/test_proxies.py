import numpy as np
import pytest

from keras_dml._ops import dtype_name
from keras_dml._ops import ops
from keras_dml._ops import weight_name
from keras_dml.layers import Proxies
from tests.gradients import gradients
from tests.layers.check_layer import check_layer


def proxies_with(values, dtype="float32"):
    """A built layer that holds these proxies."""
    layer = Proxies(len(values), dtype=dtype)
    layer.build((None, values.shape[1]))
    layer.set_weights([values])
    return layer


def test_does_what_a_layer_must(tmp_path):
    check_layer(Proxies, {"num_classes": 7}, 6, 7, True, tmp_path)


def test_gives_cosines(dtype, tolerance):
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(4, 3)), rng.normal(size=(6, 3))
    cosines = proxies_with(p, dtype)(x.astype(dtype))
    assert dtype_name(cosines.dtype) == dtype
    expected = [[a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for b in p] for a in x]
    cosines = ops.convert_to_numpy(cosines)
    np.testing.assert_allclose(cosines, expected, tolerance, tolerance)


def test_zero_vectors_give_zeros_and_finite_gradients():
    p = np.array([[0.0, 0.0], [1.0, 2.0]], np.float32)
    x = np.array([[0.0, 0.0], [3.0, 1.0]], np.float32)
    layer = proxies_with(p)
    cosines = ops.convert_to_numpy(layer(x))
    assert cosines[0, 0] == cosines[0, 1] == cosines[1, 0] == 0
    found = gradients(layer, ops.sum, x)
    assert all(np.isfinite(gradient).all() for gradient in found)


def test_proxies_start_uniform_within_one_over_root_dim():
    layer = Proxies(500)
    layer.build((None, 16))
    assert [weight_name(weight) for weight in layer.weights] == ["proxies"]
    (proxies,) = layer.get_weights()
    counts, _ = np.histogram(proxies, 10, (-0.25, 0.25))
    np.testing.assert_allclose(counts / proxies.size, 0.1, atol=0.015)


@pytest.mark.parametrize("num_classes", [0, 2.0, None])
def test_wrong_num_classes_is_refused(num_classes):
    with pytest.raises(ValueError, match=f"num_classes must .* got {num_classes!r}"):
        Proxies(num_classes)


@pytest.mark.parametrize("shape", [(2, 3, 4), (4,)])
def test_input_that_is_not_batch_by_dim_is_refused(shape):
    with pytest.raises(ValueError, match=r"shape \(batch, dim\).*got shape \([234]"):
        Proxies(5)(np.zeros(shape, np.float32))
