"""Contrastive loss over all pairs of a batch."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.losses._masked import masked_mean
from keras_dml.losses.pair_loss import PairLoss
from keras_dml.losses.pairwise_distances import pairwise_distances


@keras.saving.register_keras_serializable(package="keras_dml")
class Contrastive(PairLoss):
    """Pulls images of one class together and pushes others a margin apart.

    `½ mean_p D(p)² + ½ mean_n max(margin - D(n), 0)²`, `D` being the Euclidean distance
    of a pair, p all pairs of one class and n all pairs of two classes.

    The paper's equation 4 adds up the pairs. Here each kind has its own mean, because a
    batch holds many times more pairs of two classes than of one. With as many of each
    it is the mean of TensorFlow Addons' `ContrastiveLoss`, which takes distances of
    ready-made pairs and leaves the paper's ½ out; otherwise it is half the sum of that
    mean over the pairs of one class and that over the pairs of two.
    pytorch-metric-learning's `ContrastiveLoss` does not square the distances, and its
    reducer leaves the zeros out of both means.

    Args:
        margin: above 0. The default, 1, is TensorFlow Addons' and
            pytorch-metric-learning's; the paper names none. Unit vectors are
            at most 2 apart.
        name: Keras's.
        **kwargs: those of `PairLoss`.

    Call arguments:
        y_true: (batch,) integer labels.
        y_pred: (batch, dim) embeddings, compared as they are.

    Raises:
        ValueError: if the margin is out of range, or as in `PairLoss`.

    Example:
        >>> embedder.compile("sgd", keras_dml.losses.Contrastive())
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=3, image_size=28
        ... )
        >>> history = embedder.fit(batches, verbose=0)

    Reference:
        [Hadsell, Chopra & LeCun, 2006](https://doi.org/10.1109/CVPR.2006.100),
        equation 4.
    """

    def __init__(
        self, margin: float = 1.0, name: str = "contrastive", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = checked_number(margin, "margin", above=0, example=1.0)

    def batch_loss(
        self,
        positives: Tensor,
        negatives: Tensor,
        embeddings: Tensor,
        references: Tensor | None = None,
    ) -> Tensor:
        """Computes the loss of the batch."""
        squares = pairwise_distances(embeddings, True, references)
        distances = pairwise_distances(embeddings, False, references)
        missing = ops.relu(self.margin - distances)
        together = masked_mean(squares, positives)
        apart = masked_mean(ops.square(missing), negatives)
        return (together + apart) / 2

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the margin included."""
        return {**super().get_config(), "margin": self.margin}
