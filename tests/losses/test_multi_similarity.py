import numpy as np
import pytest
from hypothesis import assume
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.losses import MultiSimilarity
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_pair_loss
from tests.losses.peer import SIZES
from tests.losses.peer import assert_equals_peer
from tests.losses.peer import draw_batch
from tests.losses.peer import metric_learning
from tests.losses.peer import pytorch


def test_does_what_a_loss_must(tmp_path):
    arguments = {"alpha": 3.0, "beta": 20.0, "base": 0.25, "epsilon": 0.3}
    check_loss(MultiSimilarity, arguments, tmp_path)
    check_pair_loss(MultiSimilarity())


@settings(max_examples=15)
@given(
    st.integers(0, 10_000),
    SIZES,
    st.floats(1, 5),
    st.floats(5, 50),
    st.floats(-0.5, 1),
    st.floats(0, 0.5),
)
def test_equals_peer(seed, size, alpha, beta, base, epsilon):
    torch = pytorch()

    labels, x = draw_batch(seed, *size)
    labels[0] = -1  # an image without a positive
    peer = metric_learning("losses").MultiSimilarityLoss(alpha, beta, base)
    miner = metric_learning("miners").MultiSimilarityMiner(epsilon)
    targets = torch.tensor(labels)
    # The peer gives 0 for a single pair of each kind.
    mined = miner(torch.tensor(x, dtype=torch.float64), targets)
    assume(any(len(indices) > 1 for indices in mined))
    assert_equals_peer(
        MultiSimilarity(alpha, beta, base, epsilon),
        labels,
        x,
        lambda y: peer(y, targets, miner(y, targets)),
    )


def test_defaults_equal_the_peers():
    torch = pytorch()

    labels, x = draw_batch(0, 5, 4)
    peer = metric_learning("losses").MultiSimilarityLoss()
    miner = metric_learning("miners").MultiSimilarityMiner()
    targets = torch.tensor(labels)
    assert_equals_peer(
        MultiSimilarity(), labels, x, lambda y: peer(y, targets, miner(y, targets))
    )


def test_pairs_in_order_cost_nothing():
    x = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1]], np.float32)
    assert float(MultiSimilarity()(np.array([0, 0, 1, 1]), x)) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", 0), ("beta", -1), ("base", float("nan")), ("epsilon", -0.1)],
)
def test_wrong_argument_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*; got {value}"):
        MultiSimilarity(**{name: value})
