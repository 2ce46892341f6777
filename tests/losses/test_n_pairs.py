import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml._ops import ops
from keras_dml.losses import NPairs
from tests.losses.check_loss import check_loss
from tests.losses.check_loss import check_pair_loss
from tests.losses.peer import SIZES
from tests.losses.peer import assert_equals_peer
from tests.losses.peer import draw_batch
from tests.losses.peer import metric_learning
from tests.losses.peer import pytorch


def test_does_what_a_loss_must(tmp_path):
    check_loss(NPairs, {}, tmp_path)
    check_pair_loss(NPairs())


@settings(max_examples=15)
@given(st.integers(0, 10_000), SIZES)
def test_equals_peer(seed, size):
    torch = pytorch()

    labels, x = draw_batch(seed, *size)
    labels[0] = -1  # an image without a positive
    similarity = metric_learning("distances").DotProductSimilarity(
        normalize_embeddings=False
    )
    peer = metric_learning("losses").NPairsLoss(distance=similarity)
    targets = torch.tensor(labels)
    assert_equals_peer(NPairs(), labels, x, lambda y: peer(y, targets))


def test_equals_keras_cross_entropy_of_products_as_tensorflow_addons_has_it():
    _, x = draw_batch(1, 5, 2)
    anchors, positives = x[:5], x[5:]
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
        np.arange(5), anchors @ positives.T
    )
    labels = np.tile(np.arange(5), 2)
    value = float(ops.convert_to_numpy(NPairs()(labels, x)))
    assert value == pytest.approx(float(expected), rel=1e-5)


def test_hand_worked_value():
    x = np.array([[1.0], [9.0], [2.0], [9.0], [3.0], [-1.0]], np.float32)
    labels = np.array([0, 5, 0, 1, 1, 0])
    # Anchors 1 and 9, positives 2 and 3; the third of class 0 and 5 are left out.
    first = np.log(np.exp(2) + np.exp(3)) - 2
    second = np.log(np.exp(18.0) + np.exp(27.0)) - 27
    value = float(NPairs()(labels, x))
    assert value == pytest.approx((first + second) / 2, rel=1e-4)
