import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml._ops import ops
from keras_dml.layers import NormalizedSoftmax
from keras_dml.layers import Proxies
from keras_dml.losses import ProxyNCAPlusPlus
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_proxy_loss
from tests.losses.peer import DIM
from tests.losses.peer import metric_learning
from tests.losses.proxy_peer import CLASSES
from tests.losses.proxy_peer import assert_equals_proxy_peer
from tests.losses.proxy_peer import with_proxies


def test_does_what_a_loss_must(tmp_path):
    check_loss(ProxyNCAPlusPlus, {"temperature": 0.5}, tmp_path)
    check_proxy_loss(ProxyNCAPlusPlus())


@settings(max_examples=15)
@given(st.integers(0, 10_000), CLASSES, st.floats(0.05, 2))
def test_equals_peer(seed, classes, temperature):
    losses = metric_learning("losses")

    def peer(x, p, labels):
        loss = losses.ProxyNCALoss(classes, DIM, softmax_scale=1 / temperature)
        return with_proxies(loss, p)(x, labels)

    assert_equals_proxy_peer(ProxyNCAPlusPlus(temperature), peer, seed, classes)


def test_is_the_normalized_softmax_with_half_the_temperature():
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(8, 6)), rng.normal(size=(5, 6))
    labels = rng.integers(0, 5, 8)
    proxies, softmax = Proxies(5), NormalizedSoftmax(5, temperature=1 / 18)
    for layer in (proxies, softmax):
        layer.build(x.shape)
        layer.set_weights([p])
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    value = float(ops.convert_to_numpy(ProxyNCAPlusPlus()(labels, proxies(x))))
    expected = ops.convert_to_numpy(cross_entropy(labels, softmax(x)))
    assert value == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_wrong_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match=r"^temperature must be a number above 0"):
        ProxyNCAPlusPlus(temperature)
