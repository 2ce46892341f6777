import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml._ops import ops
from keras_dml.losses import Circle
from keras_dml.losses import Contrastive
from keras_dml.losses import MultiSimilarityMiner
from keras_dml.losses import TripletHard
from tests.losses.peer import SIZES
from tests.losses.peer import assert_equals_peer
from tests.losses.peer import draw_batch
from tests.losses.peer import metric_learning
from tests.losses.peer import pytorch
from tests.losses.peer import unit


@settings(max_examples=15)
@given(st.integers(0, 10_000), SIZES, st.floats(0, 0.5))
def test_picks_the_pairs_that_the_peer_picks(seed, size, epsilon):
    torch = pytorch()

    labels, x = draw_batch(seed, *size)
    labels[0] = -1  # an image without a positive
    same = labels[:, None] == labels
    found = MultiSimilarityMiner(epsilon)(
        same & ~np.eye(len(x), dtype=bool), ~same, x, x
    )
    miner = metric_learning("miners").MultiSimilarityMiner(epsilon)
    mined = miner(torch.tensor(x, dtype=torch.float64), torch.tensor(labels))
    # The peer counts in float64: what lies within float32's rounding of the
    # threshold may fall on either side.
    cosines = unit(x.astype(float)) @ unit(x.astype(float)).T
    hardest_negative = np.max(cosines, axis=1, where=~same, initial=-2)[:, None]
    hardest_positive = np.min(
        cosines, axis=1, where=same & ~np.eye(len(x), dtype=bool), initial=2
    )[:, None]
    gaps = (
        cosines - epsilon - hardest_negative,
        cosines + epsilon - hardest_positive,
    )
    for mask, rows, columns, gap in zip(
        found, mined[::2], mined[1::2], gaps, strict=True
    ):
        expected = np.zeros(same.shape, bool)
        expected[rows, columns] = True
        disagree = ops.convert_to_numpy(mask) != expected
        np.testing.assert_array_equal(disagree & (np.abs(gap) > 1e-6), False)


def test_a_loss_with_it_equals_the_peer_with_its_miner():
    torch = pytorch()

    labels, x = draw_batch(0, 5, 4)
    miner = metric_learning("miners").MultiSimilarityMiner(0.2)
    peer = metric_learning("losses").CircleLoss(0.4, 8)
    targets = torch.tensor(labels)
    assert_equals_peer(
        Circle(0.4, 8, miner=MultiSimilarityMiner(0.2)),
        labels,
        x,
        lambda y: peer(y, targets, miner(y, targets)),
    )


@keras.saving.register_keras_serializable(package="tests")
def first_positives(positives, negatives, embeddings, references):
    """A miner of one's own: the pairs with the first two images alone."""
    assert embeddings.shape == references.shape
    is_first = np.arange(6) < 2
    # More than there are: what is no pair can't be made one.
    return ops.convert_to_tensor(np.tile(is_first, (6, 1))), negatives


def test_a_miner_of_ones_own_picks_among_the_pairs_and_is_saved(tmp_path):
    x = np.arange(6, dtype=np.float32)[:, None] ** 2
    labels = np.array([0, 0, 0, 1, 1, 1])
    loss = TripletHard(margin=100.0, miner=first_positives)
    # Images 0, 1 and 2 have positives 1, 0 and 0; nearest negatives are at 9.
    expected = np.mean([1 - 9, 1 - 8, 4 - 5]) + 100
    assert float(loss(labels, x)) == pytest.approx(expected)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", loss)
    model.fit(x, labels, 6, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.miner is first_positives
    assert Contrastive().get_config()["miner"] is None


def test_what_is_no_function_is_refused():
    with pytest.raises(ValueError, match=r"^miner must be a function .*; got 'hard'"):
        Contrastive(miner="hard")


@pytest.mark.parametrize("epsilon", [-0.1, float("nan")])
def test_wrong_epsilon_is_named(epsilon):
    with pytest.raises(ValueError, match=f"^epsilon must be .*; got {epsilon}"):
        MultiSimilarityMiner(epsilon)
