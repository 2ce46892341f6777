import keras
import numpy as np
import pytest

from keras_dml._ops import ops
from keras_dml.layers import NormalizedSoftmax
from keras_dml.models import embedding_model
from keras_dml.optimizers import SGD
from keras_dml.training import FreezeTrunk
from keras_dml.training import freeze_batch_norm

to_numpy = ops.convert_to_numpy

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 3.0, (24, 8, 8, 3)).astype(np.float32)
LABELS = np.arange(24) % 4


def nested_trunk():
    """One batch normalization in the model, and one in a model inside it."""
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            keras.layers.Conv2D(5, 3, use_bias=False, name="inner_conv"),
            keras.layers.BatchNormalization(name="inner_norm"),
        ],
        name="inner",
    )
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(inputs, inner(keras.layers.ReLU()(x)))


def compiled(trunk):
    embedder = embedding_model(trunk, 4)
    model = keras.Model(embedder.input, NormalizedSoftmax(4)(embedder.output))
    model.compile(
        SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def norms_of(trunk):
    return [trunk.get_layer("norm"), trunk.get_layer("inner").get_layer("inner_norm")]


@pytest.mark.parametrize("frozen_epochs", [0, 1])
def test_rests_while_the_rest_learns(frozen_epochs):
    trunk = nested_trunk()
    assert freeze_batch_norm(trunk) == 2
    model = compiled(trunk)
    norms = [norm.get_weights() for norm in norms_of(trunk)]
    kernel = trunk.get_layer("conv").get_weights()[0]
    model.fit(
        X,
        LABELS,
        12,
        epochs=2,
        verbose=0,
        callbacks=[FreezeTrunk(trunk, frozen_epochs)],
    )
    for norm, before in zip(norms_of(trunk), norms, strict=True):
        for weight, expected in zip(norm.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, expected)
    assert np.abs(trunk.get_layer("conv").get_weights()[0] - kernel).max() > 1e-4


def test_training_computes_what_evaluation_does():
    trunk = nested_trunk()
    apart = to_numpy(trunk(X, training=True)) - to_numpy(trunk(X, training=False))
    assert np.abs(apart).max() > 0.1
    freeze_batch_norm(trunk)
    np.testing.assert_array_equal(
        to_numpy(trunk(X, training=True)), to_numpy(trunk(X, training=False))
    )


def test_a_saved_model_keeps_it(tmp_path):
    trunk = nested_trunk()
    freeze_batch_norm(trunk)
    model = compiled(trunk)
    model.fit(X, LABELS, 12, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) == len(model.trainable_variables)
    np.testing.assert_array_equal(
        to_numpy(loaded(X, training=True)), to_numpy(loaded(X, training=False))
    )


def test_trunk_without_batch_normalization_has_none_to_rest():
    assert freeze_batch_norm(keras.Sequential([keras.layers.Dense(3)])) == 0
    with pytest.raises(ValueError, match=r"^trunk must be a keras.Model; got 'conv4'"):
        freeze_batch_norm("conv4")
