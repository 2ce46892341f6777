"""Our loss on our proxies, against a loss of PyTorch on the same."""

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


def assert_equals_proxy_peer(loss, function, seed, classes=7, batch=10):
    """Value and gradients, by embeddings and by proxies, equal the function's.

    Args:
        loss: ours.
        function: (embeddings, proxies, labels) to the loss, of PyTorch tensors.
        seed: draws all three.
        classes: the number of proxies, some without an image.
        batch: the number of images.
    """
    torch = pytorch()

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, batch)
    p = rng.normal(size=(classes, DIM)).astype(np.float32)
    x = (p[labels] + rng.normal(size=(batch, DIM))).astype(np.float32)
    layer = Proxies(classes)
    layer.build(x.shape)
    layer.set_weights([p])

    value = ops.convert_to_numpy(loss(labels, layer(x)))
    found = gradients(layer, lambda cosines: loss(labels, cosines), x)
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
