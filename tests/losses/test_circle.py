import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.losses import Circle
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_pair_loss
from tests.losses.peer import SIZES
from tests.losses.peer import assert_equals_peer
from tests.losses.peer import draw_batch
from tests.losses.peer import metric_learning
from tests.losses.peer import pytorch


def test_does_what_a_loss_must(tmp_path):
    check_loss(Circle, {"margin": 0.25, "scale": 16.0}, tmp_path)
    check_pair_loss(Circle())


@settings(max_examples=15)
@given(st.integers(0, 10_000), SIZES, st.floats(0, 0.9), st.floats(1, 256))
def test_equals_peer(seed, size, margin, scale):
    torch = pytorch()

    labels, x = draw_batch(seed, *size)
    labels[0] = -1  # an image without a positive
    # The peer's default leaves out the images whose cost underflows.
    reducer = metric_learning("reducers").MeanReducer()
    peer = metric_learning("losses").CircleLoss(margin, scale, reducer=reducer)
    targets = torch.tensor(labels)
    share = np.mean([np.sum(labels == label) > 1 for label in labels])
    assert_equals_peer(
        Circle(margin, scale), labels, x, lambda y: peer(y, targets) / share
    )


def test_defaults_equal_the_peers():
    torch = pytorch()

    labels, x = draw_batch(0, 5, 4)
    peer = metric_learning("losses").CircleLoss()
    targets = torch.tensor(labels)
    assert_equals_peer(Circle(), labels, x, lambda y: peer(y, targets))


def test_hand_worked_value():
    # Cosines: 0.6 with the positive, 0 and 0.8 with the negative.
    x = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]], np.float32)
    positive = -8 * (1.25 - 0.6) * (0.6 - 0.75)
    negatives = [8 * 0.25 * -0.25, 8 * (0.8 + 0.25) * (0.8 - 0.25)]
    expected = np.mean(np.log1p(np.exp(np.add(negatives, positive))))
    value = float(Circle(0.25, 8.0)(np.array([1, 1, 0]), x))
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "value"), [("margin", -0.1), ("margin", 1), ("scale", 0)]
)
def test_wrong_argument_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*; got {value}"):
        Circle(**{name: value})
