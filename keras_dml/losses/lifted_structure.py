"""Lifted structure loss."""

from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.losses._masked import masked_logsumexp
from keras_dml.losses._masked import masked_mean
from keras_dml.losses.pair_loss import PairLoss
from keras_dml.losses.pairwise_distances import pairwise_distances


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
        name: Keras's.
        **kwargs: those of `PairLoss`.

    Call arguments:
        y_true: (batch,) integer labels.
        y_pred: (batch, dim) embeddings, compared as they are.

    Raises:
        ValueError: if the margin is out of range, or as in `PairLoss`.

    Example:
        >>> embedder.compile("sgd", keras_dml.losses.LiftedStructure())
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=3, image_size=28
        ... )
        >>> history = embedder.fit(batches, verbose=0)

    Reference:
        [Song et al., 2016](https://arxiv.org/abs/1511.06452), equation 4.
    """

    def __init__(
        self, margin: float = 1.0, name: str = "lifted_structure", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = checked_number(margin, "margin", above=0, example=1.0)

    def batch_loss(
        self, positives: Tensor, negatives: Tensor, embeddings: Tensor
    ) -> Tensor:
        """Computes the loss of the batch."""
        between = pairwise_distances(embeddings)
        pull = masked_logsumexp(self.margin - between, negatives)
        structure = between + ops.logaddexp(pull[:, None], pull[None, :])
        losses = ops.square(ops.relu(structure)) / 2
        return masked_mean(losses, positives)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the margin included."""
        return {**super().get_config(), "margin": self.margin}
