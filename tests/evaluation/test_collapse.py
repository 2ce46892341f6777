import itertools
import json
import warnings

import keras
import numpy as np
import pytest

from keras_dml.evaluation import RetrievalEvaluation
from keras_dml.evaluation._collapse import class_weights_cosine
from keras_dml.evaluation._collapse import mean_cosine
from keras_dml.layers import NormalizedSoftmax
from keras_dml.layers import Proxies

LABELS = np.arange(12) % 4
X = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)


def mean_of_all_pairs(rows):
    unit = [row / np.linalg.norm(row) if row.any() else row for row in rows]
    pairs = itertools.combinations(unit, 2)
    return np.mean([1 if not (a.any() or b.any()) else a @ b for a, b in pairs])


@pytest.mark.parametrize(
    "rows",
    [
        X.astype(np.float64),
        X + 100,
        np.array([[1.0, 0], [0, 1], [-1, 0]]),
        np.array([[1.0, 0], [0, 0], [0, 0]]),
        np.zeros((3, 2)),
        np.array([[1e-30, 0], [1e30, 1e30]]),
    ],
)
def test_mean_cosine_is_that_of_all_pairs(rows):
    assert mean_cosine(rows) == pytest.approx(mean_of_all_pairs(rows), abs=1e-6)
    assert mean_cosine(rows[:1], rows[1:]) == pytest.approx(mean_cosine(rows))


def test_rows_of_several_blocks_count_once():
    rows = np.random.default_rng(1).normal(size=(3000, 1000)) + 0.1
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    product = unit @ unit.T
    expected = product[~np.eye(3000, dtype=bool)].mean()
    assert mean_cosine(rows) == pytest.approx(expected, abs=1e-6)


class Embedder(keras.layers.Layer):
    """Adds the same number to all dimensions, the farther the more alike."""

    def build(self, shape):
        self.offset = self.add_weight(shape=(), trainable=False, name="offset")

    def call(self, x):
        return x + self.offset


class Schedule(keras.callbacks.Callback):
    """Sets the offset and the class weights of each epoch."""

    def __init__(self, embedder, offsets, class_weights=()):
        super().__init__()
        self.embedder, self.offsets = embedder, offsets
        self.class_weights = class_weights

    def on_epoch_end(self, epoch, logs=None):
        self.embedder.layers[-1].offset.assign(self.offsets[epoch])
        if self.class_weights:
            layer = self.model.layers[-1]
            layer.class_weights.assign(self.class_weights[epoch])


def model_and_embedder(last=None):
    inputs = keras.Input((5,))
    embedder = keras.Model(inputs, Embedder()(inputs))
    model = keras.Model(inputs, (last or NormalizedSoftmax(4))(embedder.output))
    model.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model, embedder


def warned(offsets, class_weights=(), last=None, every=1):
    """The text of the warnings of a `fit` with an epoch for each offset."""
    model, embedder = model_and_embedder(last)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(
            *(X, LABELS),
            epochs=len(offsets),
            verbose=0,
            callbacks=[
                Schedule(embedder, offsets, class_weights),
                RetrievalEvaluation(embedder, (X, LABELS), ks=(1,), every=every),
            ],
        )
    texts = [str(one.message) for one in caught]
    return [text for text in texts if "collapsed" in text]


def test_collapse_of_the_embeddings_is_said_once_with_its_figure():
    (text,) = warned([0, 0, 20, 30, 40])
    figure = mean_of_all_pairs(X.astype(np.float64) + 20)
    assert figure > 0.99
    assert text.startswith(
        "Training may have collapsed: after epoch 3 the embeddings of the val images "
        f"are nearly all alike, with a mean cosine of {figure:.4f}. The usual causes "
        "are a learning rate that is too high,"
    )
    assert "Try a tenth of the learning rate" in text


@pytest.mark.parametrize(
    "offsets",
    [
        [0, 1, 0, 1],  # up to a mean cosine of 0.6
        [40, 30, 20, 0],  # as a network that begins all alike
        [40],
    ],
)
def test_embeddings_that_are_apart_or_part_are_no_collapse(offsets):
    assert warned(offsets) == []


def test_embeddings_that_stay_alike_from_the_start_are_a_collapse():
    (text,) = warned([40, 40, 40])
    assert "after epoch 2" in text


def test_epochs_that_are_not_measured_do_not_count():
    # Measured after the first, the third and the sixth.
    (text,) = warned([0, 40, 0, 40, 40, 40], every=3)
    assert "after epoch 6" in text


def test_collapse_of_the_class_weights_is_said_with_the_layer():
    apart, alike = np.eye(4, 5), np.ones((4, 5)) + 0.01 * np.eye(4, 5)
    last = Proxies(4, name="classes")
    (text,) = warned([0, 0, 0], [apart, alike, alike], last)
    figure = mean_of_all_pairs(alike)
    assert "after epoch 2 the class weights of classes are nearly all al" in text
    assert f"with a mean cosine of {figure:.4f}." in text


def test_class_weights_that_start_alike_and_move_apart_are_no_collapse():
    alike, less, apart = (
        np.ones((4, 5)) + far * np.eye(4, 5) for far in (0.01, 0.1, 9)
    )
    assert not warned([0, 0, 0], [alike, less, apart], Proxies(4))
    (text,) = warned([0, 0, 0], [alike, less, alike], Proxies(4))
    assert "after epoch 3" in text


def test_class_weights_inside_another_model_are_found():
    inputs = keras.Input((5,))
    inner = keras.Sequential([inputs, NormalizedSoftmax(4, name="inner")])
    alike = np.repeat(X[:1], 4, axis=0)
    inner.layers[-1].class_weights.assign(alike)
    name, cosine = class_weights_cosine(keras.Model(inputs, inner(inputs)))
    assert name == "inner"
    assert cosine == pytest.approx(1)


def test_many_class_weights_are_compared_by_an_even_share():
    layer = Proxies(25_000)
    layer.build((None, 3))
    weights = np.zeros((25_000, 3), np.float32)
    weights[:12_000, 0] = weights[12_000:, 1] = 1
    layer.class_weights.assign(weights)
    model = keras.Sequential([keras.Input((3,)), layer])
    _, cosine = class_weights_cosine(model)
    # The pairs of one kind among shares of 0.48 and 0.52.
    assert cosine == pytest.approx(0.48**2 + 0.52**2, abs=1e-3)


def test_model_without_class_weights_has_none():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), Proxies(1)])
    assert class_weights_cosine(model) == ("", -1)


def test_resumed_run_says_nothing_again():
    model, embedder = model_and_embedder()
    evaluation = RetrievalEvaluation(embedder, (X, LABELS), ks=(1,))
    embedder.layers[-1].offset.assign(40)
    evaluation.set_model(model)
    with pytest.warns(UserWarning, match="collapsed"):
        for epoch in range(2):
            evaluation.on_epoch_end(epoch, {})
    resumed = RetrievalEvaluation(embedder, (X, LABELS), ks=(1,))
    resumed.set_model(model)
    resumed.set_state(json.loads(json.dumps(evaluation.get_state())))
    resumed.on_epoch_end(2, {})
