import math

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.losses import SubCenterArcFace
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_proxy_loss
from tests.losses.peer import DIM
from tests.losses.peer import metric_learning
from tests.losses.proxy_peer import CLASSES
from tests.losses.proxy_peer import assert_equals_proxy_peer
from tests.losses.proxy_peer import with_proxies


def peer(margin, scale, classes, centers):
    """The peer's loss as a function of (embeddings, centers, labels)."""

    def loss(x, p, labels):
        made = metric_learning("losses").SubCenterArcFaceLoss(
            num_classes=classes,
            embedding_size=DIM,
            margin=math.degrees(margin),
            scale=scale,
            sub_centers=centers,
        )
        return with_proxies(made, p.T, "W")(x, labels)

    return loss


def test_does_what_a_loss_must(tmp_path):
    check_loss(SubCenterArcFace, {"margin": 0.2, "scale": 30.0}, tmp_path)
    check_proxy_loss(SubCenterArcFace())


@settings(max_examples=15)
@given(
    st.integers(0, 10_000),
    CLASSES,
    st.sampled_from([1, 3]),
    st.floats(0, 3),
    st.floats(1, 64),
)
def test_equals_peer(seed, classes, centers, margin, scale):
    assert_equals_proxy_peer(
        SubCenterArcFace(margin, scale),
        peer(margin, scale, classes, centers),
        seed,
        classes,
        centers=centers,
    )


def test_values_of_the_paper():
    assert_equals_proxy_peer(SubCenterArcFace(), peer(0.5, 64, 7, 3), 0, centers=3)


@pytest.mark.parametrize(
    ("name", "value"), [("margin", -0.1), ("margin", 3.2), ("scale", 0)]
)
def test_wrong_argument_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}[ ,].*; got {value}"):
        SubCenterArcFace(**{name: value})
