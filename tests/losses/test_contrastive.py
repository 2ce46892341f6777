import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.losses import Contrastive
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_pair_loss
from tests.losses.peer import SIZES
from tests.losses.peer import assert_equals_peer
from tests.losses.peer import draw_batch
from tests.losses.peer import metric_learning
from tests.losses.peer import pytorch
from tests.losses.peer import unsquared


def test_does_what_a_loss_must(tmp_path):
    check_loss(Contrastive, {"margin": 0.5}, tmp_path)
    check_pair_loss(Contrastive())


@settings(max_examples=15)
@given(st.integers(0, 10_000), SIZES, st.floats(0.5, 5))
def test_equals_the_formula_on_the_peers_pairs_and_distances(seed, size, margin):
    torch = pytorch()

    labels, x = draw_batch(seed, *size)
    distance = unsquared()
    pairs = metric_learning("utils.loss_and_miner_utils").get_all_pairs_indices
    a, p, b, n = pairs(torch.tensor(labels))

    def formula(y):
        between = distance(y)
        missing = torch.relu(margin - between[b, n])
        return (between[a, p] ** 2).mean() / 2 + (missing**2).mean() / 2

    assert_equals_peer(Contrastive(margin), labels, x, formula)


def test_positive_pairs_equal_peer_on_squared_distances():
    torch = pytorch()

    labels, x = draw_batch(3, 3, 4)
    peer = metric_learning("losses").ContrastiveLoss(
        neg_margin=1e-9,
        distance=unsquared(squared=True),
        reducer=metric_learning("reducers").MeanReducer(),
    )
    targets = torch.tensor(labels)
    assert_equals_peer(
        Contrastive(margin=1e-9), labels, x, lambda y: peer(y, targets) / 2
    )


def test_hand_worked_value_is_tensorflow_addons_mean_over_one_pair_of_each_kind():
    x = np.array([[0.0, 0.0], [0.6, 0.8], [0.0, 0.0]], np.float32)
    # The pair of a class is 1 apart; those of two classes 0 and 1, in both orders.
    value = float(Contrastive(margin=1.5)(np.array([0, 0, 1]), x))
    assert value == pytest.approx((1**2 + (1.5**2 + 0.5**2) / 2) / 2)


@pytest.mark.parametrize("margin", [0, -1, float("nan")])
def test_wrong_margin_is_refused(margin):
    with pytest.raises(
        ValueError, match=r"^margin must be a number above 0, such as 1.0; got"
    ):
        Contrastive(margin)
