import keras
import numpy as np
import pytest

from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import ops
from keras_dml.layers import NormalizedSoftmax
from keras_dml.layers import Proxies
from keras_dml.models import Classifier
from keras_dml.training import imprint_class_weights

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 6)).astype(np.float32)
LABELS = RNG.permutation(np.arange(30) % 5)


@pytest.fixture
def embedder():
    """The embedding is the input."""
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Activation("linear")(inputs))


def mean_of_class(label):
    """By hand: the mean of the class's rows at length 1, at length 1."""
    rows = [
        x / np.sqrt(np.sum(x * x))
        for x, own in zip(X, LABELS, strict=True)
        if own == label
    ]
    mean = sum(rows) / len(rows)
    return mean / np.sqrt(np.sum(mean * mean))


MEANS = np.stack([mean_of_class(label) for label in range(5)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: NormalizedSoftmax(5),
        lambda: Proxies(5),
        pytest.param(
            lambda: NormalizedSoftmax(5, sampled_classes=2),
            marks=pytest.mark.skipif(IS_KERAS_2, reason="needs Keras 3"),
        ),
    ],
    ids=["softmax", "proxies", "drawn classes"],
)
def test_class_weights_are_the_means_of_the_classes(make, embedder):
    layer = make()
    Classifier(embedder, layer)
    imprint_class_weights(layer, embedder, (X, LABELS), batch_size=7, verbose=0)
    np.testing.assert_allclose(np.asarray(layer.class_weights), MEANS, atol=1e-6)


def test_length_of_an_embedding_does_not_count(embedder):
    layer = NormalizedSoftmax(5)
    layer.build((None, 6))
    lengths = RNG.uniform(0.1, 9, (30, 1)).astype(np.float32)
    imprint_class_weights(layer, embedder, (X * lengths, LABELS), verbose=0)
    np.testing.assert_allclose(np.asarray(layer.class_weights), MEANS, atol=1e-6)


def test_centers_lie_around_the_mean_and_differ(embedder):
    layer = Proxies(5, centers=3)
    layer.build((None, 6))
    imprint_class_weights(layer, embedder, (X, LABELS), verbose=0)
    centers = np.asarray(layer.class_weights).reshape(5, 3, 6)
    away = np.linalg.norm(centers - MEANS[:, None], axis=2)
    assert away.min() > 0 and away.max() < 0.1
    assert np.abs(centers[:, 0] - centers[:, 1]).max() > 1e-3


def test_classes_that_are_apart_are_told_apart_before_any_step(embedder):
    x = np.eye(6, dtype=np.float32)[np.arange(12) % 3] + RNG.normal(0, 0.05, (12, 6))
    labels = np.arange(12) % 3
    layer = NormalizedSoftmax(3)
    model = keras.Model(embedder.input, layer(embedder.output))
    imprint_class_weights(layer, embedder, (x.astype(np.float32), labels), verbose=0)
    assert (model.predict(x, verbose=0).argmax(axis=1) == labels).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS + 1, r"labels of the data set must be integers from 0 to 4"),
        (np.minimum(LABELS, 3), r"the data set has no images of class 4"),
        (LABELS.astype(str), r"labels of the data set must be integers"),
    ],
)
def test_labels_of_another_data_set_are_refused(labels, message, embedder):
    layer = NormalizedSoftmax(5)
    layer.build((None, 6))
    before = np.array(layer.class_weights)
    with pytest.raises(ValueError, match=message):
        imprint_class_weights(layer, embedder, (X, labels), verbose=0)
    np.testing.assert_array_equal(np.asarray(layer.class_weights), before)


def test_layer_that_is_not_of_the_model_is_refused(embedder):
    with pytest.raises(
        ValueError, match="layer must be a NormalizedSoftmax or Proxies"
    ):
        imprint_class_weights(NormalizedSoftmax(5), embedder, (X, LABELS), verbose=0)
    wide = NormalizedSoftmax(5)
    wide.build((None, 7))
    with pytest.raises(ValueError, match="class weights of 7 numbers, and embedder"):
        imprint_class_weights(wide, embedder, (X, LABELS), verbose=0)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_embedding_that_is_not_finite_is_named(wrong, embedder):
    layer = NormalizedSoftmax(5)
    layer.build((None, 6))
    before = ops.convert_to_numpy(layer.class_weights).copy()
    spoilt = X.copy()
    spoilt[7, 2] = wrong
    with pytest.raises(ValueError, match=r"embeddings of the data set .* row 7 holds"):
        imprint_class_weights(layer, embedder, (spoilt, LABELS), verbose=0)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.class_weights), before)


def test_class_whose_mean_is_zero_is_named(embedder):
    layer = NormalizedSoftmax(2)
    layer.build((None, 6))
    rows = np.stack([X[0], X[1], -X[1]])
    with pytest.raises(ValueError, match=r"mean embedding of class 1 is zero"):
        imprint_class_weights(layer, embedder, (rows, np.array([0, 1, 1])), verbose=0)
