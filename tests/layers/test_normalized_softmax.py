import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml._ops import dtype_name
from keras_dml._ops import ops
from keras_dml._ops import weight_name
from keras_dml.layers import NormalizedSoftmax
from tests.gradients import gradients
from tests.layers.check_layer import check_layer
from tests.layers.reference import reference


def cross_entropy(labels):
    """The mean softmax cross-entropy of logits, as a function of them."""
    labels = ops.convert_to_tensor(labels)

    def loss(logits):
        return ops.mean(
            keras.losses.sparse_categorical_crossentropy(labels, logits, True)
        )

    return loss


def layer_with(class_weights, temperature, dtype="float32"):
    """A built layer that holds these class weights."""
    num_classes, dim = class_weights.shape
    layer = NormalizedSoftmax(num_classes, temperature, dtype=dtype)
    layer.build((None, dim))
    layer.set_weights([class_weights])
    return layer


def cosine_logits(embeddings, class_weights, temperature):
    """The logits one by one, in float64."""
    logits = np.zeros((len(embeddings), len(class_weights)))
    for row, x in enumerate(embeddings.astype(float)):
        for column, p in enumerate(class_weights.astype(float)):
            logits[row, column] = x @ p / np.sqrt(x @ x) / np.sqrt(p @ p) / temperature
    return logits


def mean_cross_entropy(logits, labels):
    """The loss in NumPy."""
    shifted = logits - logits.max(-1, keepdims=True)
    log_partition = np.log(np.exp(shifted).sum(-1))
    return np.mean(log_partition - shifted[np.arange(len(labels)), labels])


def slopes(function, x, step=1e-5):
    """Central differences of a function of one array."""
    found = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        found[index] = (function(up) - function(down)) / (2 * step)
    return found


def assert_close(found, expected, tolerance):
    """Compares to a share of the greatest magnitude."""
    np.testing.assert_allclose(
        found, expected, tolerance, tolerance * np.abs(expected).max()
    )


def test_does_what_a_layer_must(tmp_path):
    arguments = {"num_classes": 5, "temperature": 0.5}
    check_layer(NormalizedSoftmax, arguments, 6, 5, True, tmp_path)


@pytest.mark.parametrize("case", ["small", "wide", "warm"])
def test_values_and_gradients_equal_pytorch(case, dtype, tolerance):
    arrays = reference(f"nsm_{case}_")
    layer = layer_with(arrays["weight"], float(arrays["temperature"]), dtype)
    embeddings, loss = (
        arrays["embeddings"].astype(dtype),
        cross_entropy(arrays["labels"]),
    )
    logits = layer(embeddings)
    assert dtype_name(logits.dtype) == dtype
    assert_close(ops.convert_to_numpy(logits), arrays["logits"], tolerance)
    value = ops.convert_to_numpy(loss(logits))
    assert_close(value, arrays["loss"], tolerance)
    by_embeddings, by_weights = gradients(layer, loss, embeddings)
    assert_close(by_embeddings, arrays["grad_embeddings"], tolerance)
    assert_close(by_weights, arrays["grad_weight"], tolerance)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_values_and_gradients_equal_the_formula(temperature, dtype, tolerance):
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(4, 3)), rng.normal(size=(6, 3))
    labels = np.array([0, 5, 2, 2])
    layer = layer_with(p, temperature, dtype)
    logits = cosine_logits(x, p, temperature)
    assert_close(ops.convert_to_numpy(layer(x.astype(dtype))), logits, tolerance)
    by_embeddings, by_weights = gradients(layer, cross_entropy(labels), x.astype(dtype))

    def loss(x, p):
        return mean_cross_entropy(cosine_logits(x, p, temperature), labels)

    assert_close(by_embeddings, slopes(lambda x: loss(x, p), x), tolerance)
    assert_close(by_weights, slopes(lambda p: loss(x, p), p), tolerance)


def test_hand_worked_logits():
    layer = layer_with(np.array([[2.0, 0.0], [-3.0, 0.0], [1.0, 1.0]]), 0.1)
    logits = ops.convert_to_numpy(layer(np.array([[5.0, 0.0], [0.0, 0.1]])))
    half = 10 * np.sqrt(0.5)
    np.testing.assert_allclose(logits, [[10, -10, half], [0, 0, half]], atol=1e-5)


@pytest.mark.parametrize("dim", [4, 256])
def test_class_weights_start_uniform_within_one_over_root_dim(dim):
    layer = NormalizedSoftmax(20_000 // dim)
    layer.build((None, dim))
    assert [weight_name(weight) for weight in layer.weights] == ["class_weights"]
    (weights,) = layer.get_weights()
    assert weights.shape == (20_000 // dim, dim)
    bound = dim**-0.5
    assert np.abs(weights).max() <= bound
    # A tenth of a uniform distribution's mass lies in each tenth of its range.
    counts, _ = np.histogram(weights, 10, (-bound, bound))
    np.testing.assert_allclose(counts / weights.size, 0.1, atol=0.015)


def test_class_weights_differ_between_layers():
    first, second = NormalizedSoftmax(3), NormalizedSoftmax(3)
    first.build((None, 4))
    second.build((None, 4))
    assert (first.get_weights()[0] != second.get_weights()[0]).all()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_half_precision_leaves_weights_and_logits_float32(policy):
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(4, 300)), rng.normal(size=(6, 300))
    layer = layer_with(p, 0.05, policy)
    (weights,) = layer.get_weights()
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, p.astype(np.float32))
    logits = layer(x.astype(np.float32))
    assert dtype_name(logits.dtype) == "float32"
    logits = ops.convert_to_numpy(logits)
    np.testing.assert_allclose(logits, cosine_logits(x, p, 0.05), 1e-4, 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_embeddings_are_taken(dtype):
    p = np.array([[1.0, 0.0], [0.0, 2.0]])
    x = ops.cast(ops.convert_to_tensor([[300.0, 400.0]]), dtype)
    logits = layer_with(p, 0.05)(x)
    assert dtype_name(logits.dtype) == "float32"
    np.testing.assert_allclose(ops.convert_to_numpy(logits), [[12, 16]], 1e-5)


def test_zero_vectors_give_zero_logits_and_finite_gradients():
    p = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], np.float32)
    x = np.array([[0.0, 0.0, 0.0], [3.0, 2.0, 1.0]], np.float32)
    layer = layer_with(p, 0.05)
    logits = ops.convert_to_numpy(layer(x))
    assert logits[0, 0] == logits[0, 1] == logits[1, 0] == 0
    found = gradients(layer, cross_entropy([0, 1]), x)
    assert all(np.isfinite(gradient).all() for gradient in found)
    assert all(gradient[1].any() for gradient in found)


@settings(max_examples=20)
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_only_angles_count(embedding_scale, weight_scale):
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(2, 3, 8)).astype(np.float32)
    logits = layer_with(p, 0.05)(x)
    same = layer_with(p * weight_scale, 0.05)(x * np.float32(embedding_scale))
    np.testing.assert_allclose(
        ops.convert_to_numpy(same),
        ops.convert_to_numpy(logits),
        rtol=1e-4,
        atol=1e-4,
    )


def test_numpy_numbers_are_taken():
    labels = np.array([0, 4, 2])
    layer = NormalizedSoftmax(labels.max() + 1, temperature=np.float32(0.25))
    config = layer.get_config()
    assert (type(config["num_classes"]), config["num_classes"]) == (int, 5)
    assert (type(config["temperature"]), config["temperature"]) == (float, 0.25)
    assert layer(np.ones((1, 3), np.float32)).shape == (1, 5)


@pytest.mark.parametrize("num_classes", [0, -3, 2.0, "5", None])
def test_wrong_num_classes_is_refused(num_classes):
    with pytest.raises(ValueError, match=f"num_classes must .* got {num_classes!r}"):
        NormalizedSoftmax(num_classes)


@pytest.mark.parametrize("temperature", [0, -0.05, float("nan")])
def test_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature must .* got {temperature}"):
        NormalizedSoftmax(5, temperature)


@pytest.mark.parametrize("shape", [(2, 3, 4), (4,)])
def test_input_that_is_not_batch_by_dim_is_refused(shape):
    with pytest.raises(ValueError, match=r"shape \(batch, dim\).*got shape \([234]"):
        NormalizedSoftmax(5)(np.zeros(shape, np.float32))


def test_unknown_dim_is_refused():
    with pytest.raises(ValueError, match=r"dim known; got shape \(None, None\)"):
        NormalizedSoftmax(5)(keras.Input((None,)))
