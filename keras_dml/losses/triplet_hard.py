"""Triplet loss with the hardest positive and negative."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._checks import checked_bool
from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.losses._masked import masked_max
from keras_dml.losses._masked import masked_mean
from keras_dml.losses._masked import masked_min
from keras_dml.losses.pair_loss import PairLoss
from keras_dml.losses.pairwise_distances import pairwise_distances


@keras.saving.register_keras_serializable(package="keras_dml")
class TripletHard(PairLoss):
    """Triplet loss of each image with its farthest positive and nearest negative.

    The mean over the images a that have both of

    `max(max_p D(a, p) - min_n D(a, n) + margin, 0)`, `D(x, y) = |x - y|`,

    p being of a's class and n of another; or, soft, of `log(1 + exp(max_p D(a, p) -
    min_n D(a, n)))`. Two distances that tie share the gradient.

    It is pytorch-metric-learning's `TripletMarginLoss` with `BatchHardMiner` and
    `MeanReducer`; its default reducer leaves the zeros out of the mean. TensorFlow
    Addons' `TripletHardLoss` has a margin of 1, and also counts images without a
    positive or a negative.

    Args:
        margin: above 0. The default, 0.2, is one of the paper's.
        soft: the paper's softplus in place of margin and hinge.
        squared: square the distances.
        name: Keras's.
        **kwargs: those of `PairLoss`.

    Call arguments:
        y_true: (batch,) integer labels.
        y_pred: (batch, dim) embeddings, compared as they are.

    Raises:
        ValueError: if the margin is out of range, soft or squared is no bool, or as in
            `PairLoss`.

    Example:
        >>> embedder.compile("sgd", keras_dml.losses.TripletHard())
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=3, image_size=28
        ... )
        >>> history = embedder.fit(batches, verbose=0)

    Reference:
        [In Defense of the Triplet Loss](https://arxiv.org/abs/1703.07737), equation 5
        and section 2.
    """

    def __init__(
        self,
        margin: float = 0.2,
        soft: bool = False,
        squared: bool = False,
        name: str = "triplet_hard",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = checked_number(margin, "margin", above=0, example=0.2)
        self.soft = checked_bool(soft, "soft")
        self.squared = checked_bool(squared, "squared")

    def batch_loss(
        self,
        positives: Tensor,
        negatives: Tensor,
        embeddings: Tensor,
        references: Tensor | None = None,
    ) -> Tensor:
        """Computes the loss of the batch."""
        between = pairwise_distances(embeddings, self.squared, references)
        gaps = masked_max(between, positives) - masked_min(between, negatives)
        losses = ops.softplus(gaps) if self.soft else ops.relu(gaps + self.margin)
        has_both = ops.logical_and(
            ops.any(positives, axis=-1), ops.any(negatives, axis=-1)
        )
        return masked_mean(losses, has_both)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, margin, soft and squared included."""
        return {
            **super().get_config(),
            "margin": self.margin,
            "soft": self.soft,
            "squared": self.squared,
        }
