"""Lifted structure loss."""

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import ops
from keras_dml.losses._batch import masked_log_sum_exp
from keras_dml.losses._batch import masked_mean
from keras_dml.losses.pair_loss import PairLoss
from keras_dml.losses.pairwise_distances import distances


@keras.saving.register_keras_serializable(package="keras_dml")
class LiftedStructure(PairLoss):
    """Compares each pair of a class with all negatives of both its images.

    `½ mean_(i, j) max(J(i, j), 0)²` over the pairs of one class, with

    `J(i, j) = D(i, j) + log(Σ_k exp(margin - D(i, k)) + Σ_l exp(margin - D(j, l)))`,

    k being the images of other classes than i's, l those of other classes than j's, and
    `D` the Euclidean distance. That is equation 4 of the paper, TensorFlow Addons'
    `LiftedStructLoss` and pytorch-metric-learning's `LiftedStructureLoss` on embeddings
    that it is told not to normalize.

    Args:
        margin: above 0. The default, 1, is the paper's.
        **kwargs: those of `PairLoss`.

    Call arguments:
        y_true: (batch,) integer labels.
        y_pred: (batch, dim) embeddings, compared as they are.

    Raises:
        ValueError: if the margin is out of range, or as in `PairLoss`.

    Example:
        >>> embedder.compile("sgd", keras_dml.losses.LiftedStructure())
        >>> embedder.fit(class_balanced_batches(train, 15, 5))

    Reference:
        [Song et al., 2016](https://arxiv.org/abs/1511.06452), equation 4.
    """

    def __init__(self, margin=1.0, name="lifted_structure", **kwargs):
        """Checks the margin; the class docstring has the arguments."""
        super().__init__(name=name, **kwargs)
        self.margin = checked_number(margin, "margin", above=0, example=1.0)

    def value(self, positives, negatives, embeddings):
        """Computes the loss of the batch."""
        between = distances(embeddings)
        pull = masked_log_sum_exp(self.margin - between, negatives)
        structure = between + ops.logaddexp(pull[:, None], pull[None, :])
        losses = ops.square(ops.relu(structure)) / 2
        return masked_mean(losses, positives)

    def get_config(self):
        """Adds the margin to the configuration."""
        return {**super().get_config(), "margin": self.margin}
