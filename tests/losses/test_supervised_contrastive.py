import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.losses import SupervisedContrastive
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_pair_loss
from tests.losses.peer import SIZES
from tests.losses.peer import assert_equals_peer
from tests.losses.peer import draw_batch
from tests.losses.peer import metric_learning
from tests.losses.peer import pytorch


def test_does_what_a_loss_must(tmp_path):
    check_loss(SupervisedContrastive, {"temperature": 0.3}, tmp_path)
    check_pair_loss(SupervisedContrastive())


@settings(max_examples=15)
@given(st.integers(0, 10_000), SIZES, st.floats(0.05, 2))
def test_equals_peer(seed, size, temperature):
    torch = pytorch()

    labels, x = draw_batch(seed, *size)
    labels[0] = -1  # an image without a positive
    peer = metric_learning("losses").SupConLoss(temperature)
    targets = torch.tensor(labels)
    assert_equals_peer(
        SupervisedContrastive(temperature), labels, x, lambda y: peer(y, targets)
    )


def test_defaults_equal_the_peers():
    torch = pytorch()

    labels, x = draw_batch(0, 5, 4)
    peer = metric_learning("losses").SupConLoss()
    targets = torch.tensor(labels)
    assert_equals_peer(SupervisedContrastive(), labels, x, lambda y: peer(y, targets))


def test_hand_worked_value():
    # Cosines: 0.6 between the positives, 0 and 0.8 with the negative, which has none.
    x = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]], np.float32)
    losses = [np.log1p(np.exp((s - 0.6) / 0.5)) for s in (0, 0.8)]
    value = float(SupervisedContrastive(0.5)(np.array([1, 1, 0]), x))
    assert value == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_wrong_temperature_is_refused(temperature):
    with pytest.raises(
        ValueError, match=r"^temperature must be a number above 0, .* got"
    ):
        SupervisedContrastive(temperature)
