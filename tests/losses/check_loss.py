"""What every loss must do."""

import json

import keras
import numpy as np
import pytest

from keras_dml._ops import dtype_name
from keras_dml._ops import ops
from tests.losses.peer import value_and_gradient

CLASSES = 5


def check_loss(loss_class, arguments, path):
    """Puts a loss through what a user may do with it.

    Args:
        loss_class: the loss.
        arguments: those of its constructor, none at its default.
        path: a folder for saved models.
    """
    loss = loss_class(**arguments)
    for name, value in arguments.items():
        assert loss.get_config()[name] == value
        assert loss_class().get_config()[name] != value
    config = json.loads(json.dumps(loss.get_config()))
    assert loss_class.from_config(config).get_config() == loss.get_config()
    described = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    again = keras.saving.deserialize_keras_object(described)
    assert isinstance(again, loss_class)
    assert again.get_config() == loss.get_config()

    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, CLASSES)).astype(np.float32)
    labels = np.repeat(np.arange(4), 3)
    exact = float(ops.convert_to_numpy(loss(labels, x)))
    assert np.isfinite(exact)
    assert float(ops.convert_to_numpy(loss(labels[:, None], x))) == pytest.approx(exact)
    order = rng.permutation(12)
    if loss_class.__name__ != "NPairs":  # whose pairs are the first of each class
        assert float(
            ops.convert_to_numpy(loss(labels[order], x[order]))
        ) == pytest.approx(exact, rel=1e-4)

    half = ops.cast(x, "bfloat16")
    rounded = ops.convert_to_numpy(ops.cast(half, "float32"))
    value = loss(labels, half)
    assert dtype_name(value.dtype) == "float32"
    assert float(ops.convert_to_numpy(value)) == pytest.approx(
        float(ops.convert_to_numpy(loss(labels, rounded))), rel=1e-6
    )

    for wrong in (x[0], x[None]):
        with pytest.raises(ValueError, match=loss_class.__name__):
            loss(labels, wrong)
    with pytest.raises(ValueError, match="not one-hot"):
        loss(np.eye(4)[labels], x)
    for wrong in (labels[:1], labels[:1, None], labels[:5]):
        with pytest.raises(ValueError, match=f"got {len(wrong)} labels for 12 embedd"):
            loss(wrong, x)

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((CLASSES,)), keras.layers.Dense(CLASSES)])
    model.compile(keras.optimizers.SGD(1e-3), loss)
    history = model.fit(x, labels, 12, epochs=9, shuffle=False, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    model.save(path / "model.keras")
    loaded = keras.saving.load_model(path / "model.keras")
    assert loaded.loss.get_config() == loss.get_config()
    np.testing.assert_allclose(
        loaded.evaluate(x, labels, 12, verbose=0),
        model.evaluate(x, labels, 12, verbose=0),
        rtol=1e-6,
    )


def check_degenerate_batches(loss, scale=1.0):
    """Value and gradient are finite where there is little to learn from.

    Args:
        loss: the loss.
        scale: of the inputs; cosines must stay within 1.
    """
    rng = np.random.default_rng(0)
    x = scale * np.clip(rng.normal(size=(6, CLASSES)), -1, 1)
    duplicates = np.repeat(x[:2], 3, axis=0)
    with_zero = x.copy()
    with_zero[0] = 0
    batches = {
        "one class": ([1] * 6, x),
        "no pair of a class": (range(5), x[:5]),
        "one image": ([3], x[:1]),
        "one pair": ([3, 3], x[:2]),
        "two images of two classes": ([3, 4], x[:2]),
        "duplicates within classes": ([0, 0, 0, 1, 1, 1], duplicates),
        "duplicates across classes": ([0, 1, 2, 0, 1, 2], duplicates),
        "all the same": ([0, 0, 0, 1, 1, 1], np.repeat(x[:1], 6, axis=0)),
        "a zero vector": ([0, 0, 1, 1, 2, 2], with_zero),
        "zeros": ([0, 0, 1, 1, 2, 2], np.zeros_like(x)),
        "ones": ([0, 0, 1, 1, 2, 2], np.ones_like(x)),
        "minus ones": ([0, 0, 1, 1, 2, 2], -np.ones_like(x)),
    }
    for name, (labels, inputs) in batches.items():
        labels = np.array(list(labels))
        value, gradient = value_and_gradient(loss, labels, inputs.astype(np.float32))
        assert np.isfinite(value), name
        assert np.isfinite(gradient).all(), name


def check_pair_loss(loss, scale=1.0):
    """What a loss on pairs must do beyond."""
    check_degenerate_batches(loss)
    rng = np.random.default_rng(0)
    x = (scale * rng.normal(size=(6, CLASSES))).astype(np.float32)
    for useless in ([1], [1] * 6, range(5)):
        labels = np.array(list(useless))
        value, gradient = value_and_gradient(loss, labels, x[: len(labels)])
        expects_zero = not (
            type(loss).__name__ == "Contrastive" and len(labels) > 1
        )  # which uses pairs of one kind alone
        if expects_zero:
            assert value == 0
            assert not gradient.any()
    with pytest.raises(ValueError, match="no sample_weight"):
        loss(np.array([0, 0]), x[:2], np.array([1.0, 2.0]))
    # Beyond what float32 tells apart.
    labels = np.array([0, 0, 1, 1, 2, 2])
    value, _ = value_and_gradient(loss, labels, x)
    large, _ = value_and_gradient(loss, labels + 2**25, x)
    assert large == pytest.approx(value)
    for diverged in (np.nan, np.inf, -np.inf, 1e30):
        for rows in (slice(1), slice(None)):
            spoilt = x.copy()
            spoilt[rows] = diverged
            for some in (labels, np.zeros(6, int), np.arange(6)):
                found = loss(some, spoilt)
                assert np.isnan(ops.convert_to_numpy(found)), (diverged, rows)


def check_proxy_loss(loss):
    """What a loss on proxies must do beyond."""
    check_degenerate_batches(loss)
    cosines = np.random.default_rng(0).uniform(-1, 1, (3, CLASSES)).astype(np.float32)
    for wrong in (CLASSES, -1):
        value = loss(np.array([0, wrong, 1]), cosines)
        assert np.isnan(ops.convert_to_numpy(value))
    wide = np.array([0, 2**32, 1])
    no_numbers = [np.array([0, wrong, 1], np.float32) for wrong in (-0.5, 0.7, np.nan)]
    # JAX cuts wide integers before.
    for labels in no_numbers + [wide] * (keras.backend.backend() != "jax"):
        assert np.isnan(ops.convert_to_numpy(loss(labels, cosines))), labels
    with pytest.raises(ValueError, match="2 classes or more"):
        loss(np.array([0, 0, 0]), cosines[:, :1])
