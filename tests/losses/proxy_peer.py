"""Our loss on our proxies, against a loss of PyTorch on the same."""

import keras
import numpy as np
from hypothesis import strategies as st

from keras_dml._ops import ops
from keras_dml.layers import Proxies
from tests.gradients import gradients
from tests.losses.peer import DIM
from tests.losses.peer import pytorch
from tests.losses.peer import torch_value_and_gradients

CLASSES = st.sampled_from([2, 5, 12])
"""How many proxies, few numbers, as JAX compiles for each shape."""


class Regularizing(keras.layers.Layer):
    """The term of a regularizer of one weight, plus 0 times the input."""

    def __init__(self, shape, regularizer):
        super().__init__()
        self.regularizer = regularizer
        self.weight = self.add_weight(shape=shape, initializer="zeros", name="weight")
        self.built = True

    def call(self, x):
        weight = ops.convert_to_tensor(self.weight)
        return self.regularizer(weight) + 0 * ops.sum(x)


def assert_equals_proxy_peer(loss, function, seed, classes=7, batch=10, **options):
    """Value and gradients, by embeddings and by proxies, equal the function's.

    Args:
        loss: ours.
        function: (embeddings, proxies, labels) to the loss, of PyTorch tensors.
        seed: draws all three.
        classes: the number of classes, some without an image.
        batch: the number of images.
        **options: arguments of `Proxies`, such as `centers`. A regularizer is part of
            the loss.
    """
    torch = pytorch()

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, batch)
    layer = Proxies(classes, **options)
    p = rng.normal(size=(classes * layer.centers, DIM)).astype(np.float32)
    x = p[labels * layer.centers] + rng.normal(size=(batch, DIM))
    x = x.astype(np.float32)
    layer.build(x.shape)
    layer.set_weights([p])
    regularizer = options.get("class_weights_regularizer")

    value = ops.convert_to_numpy(loss(labels, layer(x)))
    found = gradients(layer, lambda cosines: loss(labels, cosines), x)
    if regularizer is not None:
        term = Regularizing(layer.class_weights.shape, regularizer)
        term.set_weights([p])
        value = value + ops.convert_to_numpy(term(x))
        found[1] = found[1] + gradients(term, lambda y: y, x)[1]
    targets = torch.tensor(labels)
    expected, slopes = torch_value_and_gradients(
        lambda x, p: function(x, p, targets), x, p
    )
    np.testing.assert_allclose(value, expected, 1e-4, 1e-5)
    for gradient, slope in zip(found, slopes, strict=True):
        atol = 1e-4 * max(np.abs(slope).max(), 0.1)
        np.testing.assert_allclose(gradient, slope, 1e-3, atol)


def with_proxies(peer, proxies, name="proxies"):
    """The peer's loss with its parameter replaced by a tensor that has gradients."""
    delattr(peer, name)
    setattr(peer, name, proxies)
    # It would make its parameter anew to change the dtype.
    peer.cast_types = lambda dtype, device: None
    return peer
