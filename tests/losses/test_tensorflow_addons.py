"""Our losses against TensorFlow Addons' own, value and gradient, on the same batch."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml import losses
from keras_dml._ops import ops
from keras_dml.losses import pairwise_distances
from tests.losses.peer import SIZES
from tests.losses.peer import draw_batch
from tests.losses.peer import unit
from tests.losses.peer import value_and_gradient

tfa = pytest.importorskip(
    "tensorflow_addons", reason="needs TensorFlow Addons: `make test-addons`"
)

SEEDS = st.integers(0, 10_000)
MARGINS = st.sampled_from([0.3, 1.0, 1.7])
"""Few, as TensorFlow traces a loss of Addons anew for each."""
METRICS = {False: "L2", True: "squared-L2"}
many = settings(max_examples=25)


def assert_equal(loss, labels, x, function):
    """Value and gradient equal those of `function(embeddings)`."""
    value, gradient = value_and_gradient(loss, labels, x)
    expected, slope = value_and_gradient(lambda _, y: function(y), labels, x)
    np.testing.assert_allclose(value, expected, 1e-4, 1e-6)
    atol = 1e-4 * max(np.abs(slope).max(), 0.1)
    np.testing.assert_allclose(gradient, slope, 1e-3, atol)


@many
@given(SEEDS, SIZES, MARGINS, st.booleans(), st.booleans())
def test_triplet_semi_hard(seed, size, margin, squared, scaled):
    labels, x = draw_batch(seed, *size)
    x = unit(x).astype(np.float32) if scaled else x
    peer = tfa.losses.TripletSemiHardLoss(margin, METRICS[squared])
    ours = losses.TripletSemiHard(margin, squared)
    assert_equal(ours, labels, x, lambda y: peer(labels, y))


@many
@given(SEEDS, SIZES, MARGINS, st.booleans(), st.booleans())
def test_triplet_hard(seed, size, margin, soft, squared):
    labels, x = draw_batch(seed, *size)
    peer = tfa.losses.TripletHardLoss(margin, soft, METRICS[squared])
    ours = losses.TripletHard(margin, soft, squared)
    assert_equal(ours, labels, x, lambda y: peer(labels, y))


@many
@given(SEEDS, SIZES, MARGINS)
def test_lifted_structure(seed, size, margin):
    labels, x = draw_batch(seed, *size)
    peer = tfa.losses.LiftedStructLoss(margin)
    assert_equal(losses.LiftedStructure(margin), labels, x, lambda y: peer(labels, y))


@many
@given(SEEDS, st.sampled_from([2, 5, 8]))
def test_n_pairs_is_that_on_the_products_of_the_pairs(seed, classes):
    _, x = draw_batch(seed, classes, 2)
    labels = np.tile(np.arange(classes), 2)
    peer = tfa.losses.NpairsLoss()

    def on_products(y):
        products = y[:classes] @ ops.transpose(y[classes:])
        return peer(np.arange(classes), products)

    assert_equal(losses.NPairs(), labels, x, on_products)


@many
@given(SEEDS, SIZES, MARGINS)
def test_contrastive_is_the_mean_of_those_of_both_kinds_of_pairs(seed, size, margin):
    labels, x = draw_batch(seed, *size)
    peer = tfa.losses.ContrastiveLoss(margin)
    first, second = np.nonzero(~np.eye(len(labels), dtype=bool))
    is_positive = labels[first] == labels[second]

    def of_both_kinds(y):
        gaps = tf.gather(y, first) - tf.gather(y, second)
        between = tf.norm(gaps, axis=-1)
        means = [
            peer(is_positive[of_kind], between[of_kind])
            for of_kind in (is_positive, ~is_positive)
        ]
        return (means[0] + means[1]) / 2

    assert_equal(losses.Contrastive(margin), labels, x, of_both_kinds)


@pytest.mark.parametrize("squared", [False, True])
def test_distances_are_its_pairwise_distances(squared):
    _, x = draw_batch(0, 4, 3)
    expected = tfa.losses.metric_learning.pairwise_distance(x, squared)
    found = ops.convert_to_numpy(pairwise_distances(ops.convert_to_tensor(x), squared))
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5)
