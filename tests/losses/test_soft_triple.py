import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.layers import CenterMerging
from keras_dml.losses import SoftTriple
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_proxy_loss
from tests.losses.peer import DIM
from tests.losses.peer import metric_learning
from tests.losses.proxy_peer import CLASSES
from tests.losses.proxy_peer import assert_equals_proxy_peer
from tests.losses.proxy_peer import with_proxies


def test_does_what_a_loss_must(tmp_path):
    check_loss(SoftTriple, {"margin": 0.2, "scale": 30.0}, tmp_path)
    check_proxy_loss(SoftTriple())


@settings(max_examples=15)
@given(
    st.integers(0, 10_000),
    CLASSES,
    st.sampled_from([1, 4]),
    st.floats(0.02, 2),
    st.floats(0, 0.5),
    st.floats(1, 40),
)
def test_equals_peer(seed, classes, centers, temperature, margin, scale):
    losses = metric_learning("losses")

    def peer(x, p, labels):
        loss = losses.SoftTripleLoss(
            classes, DIM, centers, la=scale, gamma=temperature, margin=margin
        )
        return with_proxies(loss, p.T, "fc")(x, labels)

    assert_equals_proxy_peer(
        SoftTriple(margin, scale),
        peer,
        seed,
        classes,
        centers=centers,
        center_temperature=temperature,
    )


def test_values_of_the_paper_are_the_peers_defaults():
    losses = metric_learning("losses")

    def peer(x, p, labels):
        return with_proxies(losses.SoftTripleLoss(7, DIM), p.T, "fc")(x, labels)

    assert_equals_proxy_peer(SoftTriple(), peer, 0, centers=10, center_temperature=0.1)


def test_with_merging_centers_equals_peer_with_its_regularizer():
    losses = metric_learning("losses")
    regularizers = metric_learning("regularizers")

    def peer(x, p, labels):
        loss = losses.SoftTripleLoss(
            7,
            DIM,
            weight_regularizer=regularizers.SparseCentersRegularizer(7, 10),
            weight_reg_weight=0.2,
        )
        return with_proxies(loss, p.T, "fc")(x, labels)

    assert_equals_proxy_peer(
        SoftTriple(),
        peer,
        0,
        centers=10,
        center_temperature=0.1,
        class_weights_regularizer=CenterMerging(),
    )


def test_hand_worked_value():
    cosines = np.array([[0.5, 0.1]], np.float32)
    value = float(SoftTriple(0.2, 4)(np.array([0]), cosines))
    assert value == pytest.approx(np.log1p(np.exp(4 * (0.1 - 0.3))), rel=1e-5)


@pytest.mark.parametrize(("name", "value"), [("margin", -0.1), ("scale", 0)])
def test_wrong_argument_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*; got {value}"):
        SoftTriple(**{name: value})
