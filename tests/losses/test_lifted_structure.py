import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.losses import LiftedStructure
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_pair_loss
from tests.losses.peer import SIZES
from tests.losses.peer import assert_equals_peer
from tests.losses.peer import draw_batch
from tests.losses.peer import metric_learning
from tests.losses.peer import pytorch
from tests.losses.peer import unsquared


def test_does_what_a_loss_must(tmp_path):
    check_loss(LiftedStructure, {"margin": 0.5}, tmp_path)
    check_pair_loss(LiftedStructure())


@settings(max_examples=15)
@given(st.integers(0, 10_000), SIZES, st.floats(0.1, 3))
def test_equals_peer(seed, size, margin):
    torch = pytorch()

    labels, x = draw_batch(seed, *size)
    peer = metric_learning("losses").LiftedStructureLoss(margin, distance=unsquared())
    targets = torch.tensor(labels)
    assert_equals_peer(LiftedStructure(margin), labels, x, lambda y: peer(y, targets))


def test_hand_worked_value():
    x = np.array([[0.0], [1.0], [3.0]], np.float32)
    # One pair, 1 apart; the negative is 3 and 2 away.
    structure = 1 + np.log(np.exp(1 - 3) + np.exp(1 - 2))
    value = float(LiftedStructure()(np.array([0, 0, 1]), x))
    assert value == pytest.approx(structure**2 / 2, rel=1e-5)


@pytest.mark.parametrize("margin", [0, -1, float("nan")])
def test_wrong_margin_is_refused(margin):
    with pytest.raises(
        ValueError, match=r"^margin must be a number above 0, such as 1.0; got"
    ):
        LiftedStructure(margin)
