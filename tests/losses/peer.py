"""pytorch-metric-learning and PyTorch, as the peer of our losses."""

import keras
import numpy as np
import pytest
from hypothesis import strategies as st

from keras_dml._ops import ops
from tests.gradients import gradients

DIM = 6
SIZES = st.sampled_from([(2, 2), (4, 3), (6, 4)])
"""Classes and images of each, few of them, as JAX compiles for each shape."""


def metric_learning(module):
    """A module of pytorch-metric-learning; skips where it isn't installed."""
    return pytest.importorskip(
        f"pytorch_metric_learning.{module}",
        reason="needs pytorch-metric-learning: `make test` installs it",
    )


def pytorch():
    """PyTorch; skips where it isn't installed."""
    return pytest.importorskip("torch", reason="needs PyTorch: `make test` installs it")


def unsquared(squared=False):
    """The peer's Euclidean distance, of embeddings as they are."""
    distances = metric_learning("distances")
    return distances.LpDistance(normalize_embeddings=False, power=2 if squared else 1)


def draw_batch(seed, classes, images_per_class, dim=DIM):
    """(labels, embeddings): shuffled classes whose clusters overlap."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(classes), images_per_class))
    centers = rng.normal(size=(classes, dim))
    embeddings = 0.5 * centers[labels] + rng.normal(size=(len(labels), dim))
    return labels, embeddings.astype(np.float32)


def unit(x):
    """Rows scaled to length 1."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def torch_value_and_gradients(function, *arrays):
    """The value of a function of PyTorch tensors in float64, and its gradients."""
    torch = pytorch()

    tensors = [
        torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in arrays
    ]
    value = function(*tensors)
    value.backward()
    return value.item(), [tensor.grad.numpy() for tensor in tensors]


def value_and_gradient(loss, labels, x):
    """The value of a loss, and its gradient by what it takes."""
    (gradient,) = gradients(
        keras.layers.Identity(), lambda y: loss(labels, y), np.asarray(x, np.float32)
    )
    return float(ops.convert_to_numpy(loss(labels, x))), gradient


def assert_equals_peer(loss, labels, x, function):
    """Value and gradient equal those of `function(tensor)` in float64."""
    value, gradient = value_and_gradient(loss, labels, x)
    expected, (slope,) = torch_value_and_gradients(function, x)
    np.testing.assert_allclose(value, expected, 1e-4, 1e-6)
    atol = 1e-4 * max(np.abs(slope).max(), 0.1)
    np.testing.assert_allclose(gradient, slope, 1e-3, atol)
