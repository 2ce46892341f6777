import keras
import numpy as np
import pytest

from keras_dml._ops import IS_KERAS_2
from keras_dml.layers import NormalizedSoftmax
from keras_dml.layers._sampling import drawn_classes
from tests.gradients import gradients
from tests.layers.test_normalized_softmax import assert_close
from tests.layers.test_normalized_softmax import cosine_logits
from tests.layers.test_normalized_softmax import cross_entropy
from tests.layers.test_normalized_softmax import layer_with
from tests.layers.test_normalized_softmax import mean_cross_entropy

pytestmark = pytest.mark.skipif(IS_KERAS_2, reason="classes are drawn on Keras 3")


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


@pytest.mark.slow
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


def test_sampled_logits_of_a_layer_that_draws_no_classes_are_refused():
    with pytest.raises(ValueError, match=r"draws no classes; make it with sampled_cl"):
        layer_with(np.eye(3), 0.5).sampled_logits(np.eye(3), [0, 1, 2])


@pytest.mark.parametrize("wrong", [0, -1, 9, 0.0, 1.5, float("nan"), True, "10"])
def test_wrong_sampled_classes_is_refused(wrong):
    with pytest.raises(ValueError, match=f"sampled_classes must .* got {wrong!r}"):
        NormalizedSoftmax(8, sampled_classes=wrong)


@pytest.mark.parametrize("wrong", [-1, 8, 2**32])
def test_a_label_that_is_no_class_cannot_pass(wrong):
    if wrong == 2**32 and keras.backend.backend() == "jax":
        pytest.skip("JAX makes 32 bits of every array, before the layer sees it")
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
