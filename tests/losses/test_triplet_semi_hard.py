import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.losses import TripletSemiHard
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_pair_loss
from tests.losses.peer import SIZES
from tests.losses.peer import assert_equals_peer
from tests.losses.peer import draw_batch
from tests.losses.peer import metric_learning
from tests.losses.peer import pytorch
from tests.losses.peer import unit
from tests.losses.peer import unsquared


def test_does_what_a_loss_must(tmp_path):
    check_loss(TripletSemiHard, {"margin": 0.5, "squared": False}, tmp_path)
    check_pair_loss(TripletSemiHard())


def semi_hard_triplets(labels, embeddings):
    """The triplets as TensorFlow Addons' documentation describes them, one by one."""
    x = embeddings.astype(np.float64)
    squares = ((x[:, None] - x[None]) ** 2).sum(-1)
    triplets = []
    for a in range(len(labels)):
        negatives = np.flatnonzero(labels != labels[a])
        for p in np.flatnonzero(labels == labels[a]):
            if p == a or not len(negatives):
                continue
            farther = negatives[squares[a, negatives] > squares[a, p]]
            if len(farther):
                triplets.append((a, p, farther[squares[a, farther].argmin()]))
            else:
                triplets.append((a, p, negatives[squares[a, negatives].argmax()]))
    return np.array(triplets).T


@settings(max_examples=15)
@given(st.integers(0, 10_000), SIZES, st.floats(0.05, 2))
def test_equals_peer_on_triplets_mined_one_by_one(seed, size, margin):
    torch = pytorch()

    labels, x = draw_batch(seed, *size)
    x = unit(x).astype(np.float32)
    peer = metric_learning("losses").TripletMarginLoss(
        margin,
        distance=unsquared(squared=True),
        reducer=metric_learning("reducers").MeanReducer(),
    )
    triplets = tuple(torch.tensor(row) for row in semi_hard_triplets(labels, x))
    assert_equals_peer(
        TripletSemiHard(margin),
        labels,
        x,
        lambda y: peer(y, torch.tensor(labels), triplets),
    )


def test_hand_worked_value():
    # Squares from 0: 1 to the positive, 4 and 9 to the negatives; from the positive:
    # 1, 1 and 4; each negative has no positive.
    x = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    labels = np.array([0, 0, 1, 2])
    # Nearest farther than 1: 4 from 0; 4 from 1, as its other negative is no farther.
    value = float(TripletSemiHard(margin=3.5)(labels, x))
    assert value == pytest.approx(((1 - 4 + 3.5) + (1 - 4 + 3.5)) / 2)


def test_farthest_negative_is_taken_where_none_is_farther_than_the_positive():
    x = np.array([[0.0], [5.0], [1.0], [2.0]], np.float32)
    labels = np.array([0, 0, 1, 2])
    # From 0: positive at 25, negatives at 1 and 4, the farthest 4. From 5: 16 and 9.
    value = float(TripletSemiHard(margin=1.0)(labels, x))
    assert value == pytest.approx(((25 - 4 + 1) + (25 - 16 + 1)) / 2)


@pytest.mark.parametrize("margin", [0, -1, float("nan"), float("inf"), "x", None])
def test_wrong_margin_is_refused(margin):
    with pytest.raises(
        ValueError, match=r"^margin must be a number above 0, such as 0.2; got"
    ):
        TripletSemiHard(margin)


def test_squared_that_is_no_bool_is_refused():
    with pytest.raises(ValueError, match=r"^squared must be True or False; got"):
        TripletSemiHard(squared="False")
