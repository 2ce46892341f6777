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
from keras_dml.layers.drawn_classes import drawn_classes
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


@settings(max_examples=20, deadline=None)
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


def sampled_layer(class_weights, sampled_classes, seed=0, temperature=0.5):
    """A built layer that draws classes, and a twin of its seed generator."""
    num_classes, dim = class_weights.shape
    layer = NormalizedSoftmax(num_classes, temperature, sampled_classes, seed)
    layer.build((None, dim))
    layer.class_weights.assign(class_weights)
    return layer, keras.random.SeedGenerator(seed)


class WithLabels(keras.layers.Layer):
    """A layer of the sampled logits for given labels."""

    def __init__(self, softmax, labels):
        super().__init__()
        self.softmax, self.labels = softmax, labels

    def call(self, embeddings):
        return self.softmax.sampled_logits(embeddings, self.labels)


def test_all_classes_drawn_give_the_full_loss_and_gradients():
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(6, 4)), rng.normal(size=(9, 4))
    x, labels = x.astype("float32"), np.array([3, 3, 0, 8, 3, 5])
    layer, _ = sampled_layer(p, 1.0)
    assert layer.sampled_classes == 9

    def loss(found):
        logits, columns = found
        return keras.ops.mean(
            keras.ops.sparse_categorical_crossentropy(columns, logits, True)
        )

    found = layer.sampled_logits(x, labels)
    expected = mean_cross_entropy(cosine_logits(x, p, 0.5), labels)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(loss(found)), expected, rtol=1e-6
    )
    full = layer_with(p, 0.5)
    by_all = gradients(full, cross_entropy(labels), x)
    by_sample = gradients(WithLabels(layer, labels), loss, x)
    for some, others in zip(by_sample, by_all, strict=True):
        assert_close(some, others, 1e-5)


def test_sampled_logits_are_those_of_the_batch_and_of_the_drawn_classes():
    rng = np.random.default_rng(1)
    x, p = rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=(30, 3))
    labels = np.array([[29], [4], [29], [0]])
    layer, twin = sampled_layer(p, 12, seed=7)
    exact = cosine_logits(x, p, 0.5)
    for _ in range(3):
        drawn = keras.ops.convert_to_numpy(drawn_classes(30, 12, twin))
        logits, columns = map(
            keras.ops.convert_to_numpy, layer.sampled_logits(x, labels)
        )
        np.testing.assert_array_equal(columns, [0, 1, 0, 3])
        others = [z for z in drawn if z not in (29, 4, 0)]
        counts = np.exp(exact[:, [29, 4, 0]]).sum(1)
        counts += np.exp(exact[:, others]).sum(1) * 27 / len(others)
        np.testing.assert_allclose(np.exp(logits).sum(1), counts, 1e-5)
        np.testing.assert_allclose(
            logits[np.arange(4), columns], exact[np.arange(4), labels[:, 0]], 1e-5
        )


def test_the_denominator_is_right_on_average_and_the_loss_a_little_low():
    rng = np.random.default_rng(2)
    x, p = rng.normal(size=(2, 3)).astype("float32"), rng.normal(size=(40, 3))
    labels = np.array([1, 30])
    layer, _ = sampled_layer(p, 8)
    exact = np.exp(cosine_logits(x, p, 0.5)).sum(1)
    found = []
    for _ in range(300):
        logits, _ = layer.sampled_logits(x, labels)
        found.append(np.exp(keras.ops.convert_to_numpy(logits)).sum(1))
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - exact) < 4 * error).all()
    # log(1 + e) = e - e² / 2 + …, and the mean of e is the denominator's own error.
    off = np.array(found) / exact - 1
    low = np.mean(off - np.log1p(off), axis=0)
    np.testing.assert_allclose(low, 0.5 * np.mean(off**2, axis=0), rtol=0.25)


def test_evaluation_takes_all_classes_and_training_needs_the_labels():
    rng = np.random.default_rng(3)
    x, p = rng.normal(size=(2, 3)).astype("float32"), rng.normal(size=(8, 3))
    layer, _ = sampled_layer(p, 0.25)
    assert layer.sampled_classes == 2
    logits = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(logits, cosine_logits(x, p, 0.5), 1e-5, 1e-5)
    with pytest.raises(ValueError, match=r"sampled_classes=2 .*models\.Classifier"):
        layer(x, training=True)


@pytest.mark.parametrize("wrong", [0, -1, 9, 0.0, 1.5, float("nan"), True, "10"])
def test_wrong_sampled_classes_is_refused(wrong):
    with pytest.raises(ValueError, match=f"sampled_classes must .* got {wrong!r}"):
        NormalizedSoftmax(8, sampled_classes=wrong)


@pytest.mark.parametrize("wrong", [-1, 8])
def test_a_label_that_is_no_class_cannot_pass(wrong):
    layer, _ = sampled_layer(np.eye(8), 4)
    x, labels = np.eye(8, dtype="float32")[:2], np.array([0, wrong])
    try:
        logits, _ = layer.sampled_logits(x, labels)
    except Exception as error:
        assert "from 0 to 7" in str(error) or "out of range" in str(error)
        assert keras.backend.backend() in ("tensorflow", "torch")
    else:
        assert np.isnan(keras.ops.convert_to_numpy(logits)[1]).all()
        assert keras.backend.backend() != "tensorflow"


def test_a_layer_that_draws_round_trips_with_its_seed():
    layer = NormalizedSoftmax(8, sampled_classes=np.float32(0.5), seed=3)
    again = NormalizedSoftmax.from_config(layer.get_config())
    assert (again.sampled_classes, again.seed) == (4, 3)
    assert again.get_config() == layer.get_config()
    assert NormalizedSoftmax(8, sampled_classes=4).seed is not None
