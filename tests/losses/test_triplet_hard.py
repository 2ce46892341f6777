import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.losses import TripletHard
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_pair_loss
from tests.losses.peer import SIZES
from tests.losses.peer import assert_equals_peer
from tests.losses.peer import draw_batch
from tests.losses.peer import metric_learning
from tests.losses.peer import pytorch
from tests.losses.peer import unsquared


def test_does_what_a_loss_must(tmp_path):
    check_loss(TripletHard, {"margin": 0.5, "soft": True, "squared": True}, tmp_path)
    check_pair_loss(TripletHard())
    check_pair_loss(TripletHard(soft=True, squared=True))


@settings(max_examples=15)
@given(
    st.integers(0, 10_000),
    SIZES,
    st.floats(0.05, 2),
    st.booleans(),
)
def test_equals_peer(seed, size, margin, squared):
    torch = pytorch()

    labels, x = draw_batch(seed, *size)
    labels[0] = -1  # an image without a positive
    distance = unsquared(squared)
    miner = metric_learning("miners").BatchHardMiner(distance=unsquared())
    peer = metric_learning("losses").TripletMarginLoss(
        margin,
        distance=distance,
        reducer=metric_learning("reducers").MeanReducer(),
    )
    targets = torch.tensor(labels)
    assert_equals_peer(
        TripletHard(margin, squared=squared),
        labels,
        x,
        lambda y: peer(y, targets, miner(y, targets)),
    )


@pytest.mark.parametrize("squared", [False, True])
def test_soft_equals_peer_with_a_margin_of_zero(squared):
    torch = pytorch()

    labels, x = draw_batch(0, 4, 3)
    miner = metric_learning("miners").BatchHardMiner(distance=unsquared())
    peer = metric_learning("losses").TripletMarginLoss(
        0,
        smooth_loss=True,
        distance=unsquared(squared),
        reducer=metric_learning("reducers").MeanReducer(),
    )
    targets = torch.tensor(labels)
    assert_equals_peer(
        TripletHard(soft=True, squared=squared),
        labels,
        x,
        lambda y: peer(y, targets, miner(y, targets)),
    )


def test_hand_worked_values():
    x = np.array([[0.0], [1.0], [3.0], [6.0]], np.float32)
    labels = np.array([0, 0, 0, 1])
    # Farthest positives 3, 2, 3; nearest negatives 6, 5, 3; the last has no positive.
    assert float(TripletHard(margin=1.0)(labels, x)) == pytest.approx(1 / 3)
    soft = np.mean(np.log1p(np.exp([-3.0, -3.0, 0.0])))
    assert float(TripletHard(soft=True)(labels, x)) == pytest.approx(soft, rel=1e-5)
    squared = TripletHard(margin=1.0, squared=True)
    assert float(squared(labels, x)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("margin", [0, -1, float("nan")])
def test_wrong_margin_is_refused(margin):
    with pytest.raises(
        ValueError, match=r"^margin must be a number above 0, such as 0.2; got"
    ):
        TripletHard(margin)


@pytest.mark.parametrize("name", ["soft", "squared"])
@pytest.mark.parametrize("value", ["no", 1, None])
def test_switch_that_is_no_bool_is_refused(name, value):
    with pytest.raises(
        ValueError, match=f"^{name} must be True or False; got {value!r}"
    ):
        TripletHard(**{name: value})
