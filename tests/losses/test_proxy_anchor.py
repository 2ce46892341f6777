import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.losses import ProxyAnchor
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_proxy_loss
from tests.losses.peer import DIM
from tests.losses.peer import metric_learning
from tests.losses.proxy_peer import CLASSES
from tests.losses.proxy_peer import assert_equals_proxy_peer
from tests.losses.proxy_peer import with_proxies


def test_does_what_a_loss_must(tmp_path):
    check_loss(ProxyAnchor, {"margin": 0.3, "alpha": 16.0}, tmp_path)
    check_proxy_loss(ProxyAnchor())


@settings(max_examples=15)
@given(st.integers(0, 10_000), CLASSES, st.floats(0, 0.9), st.floats(1, 32))
def test_equals_peer(seed, classes, margin, alpha):
    losses = metric_learning("losses")

    def peer(x, p, labels):
        loss = losses.ProxyAnchorLoss(classes, DIM, margin=margin, alpha=alpha)
        return with_proxies(loss, p)(x, labels)

    assert_equals_proxy_peer(ProxyAnchor(margin, alpha), peer, seed, classes)


def test_defaults_equal_the_peers():
    losses = metric_learning("losses")

    def peer(x, p, labels):
        return with_proxies(losses.ProxyAnchorLoss(7, DIM), p)(x, labels)

    assert_equals_proxy_peer(ProxyAnchor(), peer, 0)


def test_hand_worked_value():
    cosines = np.array([[0.5, 0.1, 0.0]], np.float32)
    together = np.log1p(np.exp(-4 * (0.5 - 0.2)))
    apart = np.log1p(np.exp(4 * 0.3)) + np.log1p(np.exp(4 * 0.2))
    value = float(ProxyAnchor(0.2, 4)(np.array([0]), cosines))
    assert value == pytest.approx(together + apart / 3, rel=1e-5)


def test_sample_weights_are_refused():
    with pytest.raises(ValueError, match="no sample_weight"):
        ProxyAnchor()(np.array([0]), np.zeros((1, 2), np.float32), np.array([2.0]))


@pytest.mark.parametrize(("name", "value"), [("margin", -0.1), ("alpha", 0)])
def test_wrong_argument_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*; got {value}"):
        ProxyAnchor(**{name: value})
