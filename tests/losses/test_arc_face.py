import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.losses import ArcFace
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_proxy_loss
from tests.losses.peer import DIM
from tests.losses.peer import metric_learning
from tests.losses.proxy_peer import CLASSES
from tests.losses.proxy_peer import assert_equals_proxy_peer
from tests.losses.proxy_peer import with_proxies


def test_does_what_a_loss_must(tmp_path):
    check_loss(ArcFace, {"margin": 0.2, "scale": 30.0}, tmp_path)
    check_proxy_loss(ArcFace())


@settings(max_examples=15)
@given(st.integers(0, 10_000), CLASSES, st.floats(0, 3), st.floats(1, 64))
def test_equals_peer(seed, classes, margin, scale):
    losses = metric_learning("losses")

    def peer(x, p, labels):
        loss = losses.ArcFaceLoss(
            classes, DIM, margin=math.degrees(margin), scale=scale
        )
        return with_proxies(loss, p.T, "W")(x, labels)

    assert_equals_proxy_peer(ArcFace(margin, scale), peer, seed, classes)


@pytest.mark.parametrize(
    ("cosine", "turned"),
    [
        (math.cos(1.0), math.cos(1.5)),
        (math.cos(2.6), math.cos(3.1)),
        # 2.7 + 0.5 is beyond π.
        (math.cos(2.7), math.cos(2.7) - 0.5 * math.sin(0.5)),
    ],
)
def test_hand_worked_values(cosine, turned):
    cosines = np.array([[cosine, 0.1]], np.float32)
    value = float(ArcFace(0.5, 4)(np.array([0]), cosines))
    assert value == pytest.approx(np.log1p(np.exp(4 * (0.1 - turned))), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "value"), [("margin", -0.1), ("margin", 3.2), ("scale", 0)]
)
def test_wrong_argument_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}[ ,].*; got {value}"):
        ArcFace(**{name: value})
