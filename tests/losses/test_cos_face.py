import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.losses import CosFace
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_proxy_loss
from tests.losses.peer import DIM
from tests.losses.peer import metric_learning
from tests.losses.proxy_peer import CLASSES
from tests.losses.proxy_peer import assert_equals_proxy_peer
from tests.losses.proxy_peer import with_proxies


def test_does_what_a_loss_must(tmp_path):
    check_loss(CosFace, {"margin": 0.2, "scale": 30.0}, tmp_path)
    check_proxy_loss(CosFace())


@settings(max_examples=15)
@given(st.integers(0, 10_000), CLASSES, st.floats(0, 0.9), st.floats(1, 64))
def test_equals_peer(seed, classes, margin, scale):
    losses = metric_learning("losses")

    def peer(x, p, labels):
        loss = losses.CosFaceLoss(classes, DIM, margin=margin, scale=scale)
        return with_proxies(loss, p.T, "W")(x, labels)

    assert_equals_proxy_peer(CosFace(margin, scale), peer, seed, classes)


def test_defaults_equal_the_peers():
    losses = metric_learning("losses")

    def peer(x, p, labels):
        return with_proxies(losses.CosFaceLoss(7, DIM), p.T, "W")(x, labels)

    assert_equals_proxy_peer(CosFace(), peer, 0)


def test_hand_worked_value():
    cosines = np.array([[0.5, 0.1], [0.2, 0.9]], np.float32)
    first = np.log1p(np.exp(10 * (0.1 - 0.2)))
    second = np.log1p(np.exp(10 * (0.9 - -0.1)))
    value = float(CosFace(0.3, 10)(np.array([0, 0]), cosines))
    assert value == pytest.approx((first + second) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "value"), [("margin", -0.1), ("scale", 0), ("scale", float("nan"))]
)
def test_wrong_argument_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*; got {value}"):
        CosFace(**{name: value})
