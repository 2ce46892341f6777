"""Circle loss."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.losses._masked import masked_logsumexp
from keras_dml.losses._masked import masked_mean
from keras_dml.losses._pairwise_cosines import pairwise_cosines
from keras_dml.losses.pair_loss import PairLoss


@keras.saving.register_keras_serializable(package="keras_dml")
class Circle(PairLoss):
    """Weighs each cosine by how far it is from its optimum.

    The mean over the images i that have positives k and negatives n of

    `log(1 + Σ_n exp(scale a_n (s(i, n) - margin))
    Σ_k exp(-scale a_k (s(i, k) - (1 - margin))))`,

    `s` being the cosine, and `a_n = max(s(i, n) + margin, 0)` and
    `a_k = max(1 + margin - s(i, k), 0)` weights without a gradient.

    It is pytorch-metric-learning's `CircleLoss`, whose reducer leaves out the images
    that cost 0: in exact arithmetic none does.

    Args:
        margin: the paper's m, from 0 to 1, which it does not reach. The default, 0.4,
            is the paper's for fine-grained retrieval; for faces and for persons it has
            0.25.
        scale: the paper's γ, above 0. The default, 80, is the paper's for fine-grained
            retrieval; for faces it has 256, for persons 128.
        name: Keras's.
        **kwargs: those of `PairLoss`.

    Call arguments:
        y_true: (batch,) integer labels.
        y_pred: (batch, dim) embeddings, of any length.

    Raises:
        ValueError: if an argument is out of range, or as in `PairLoss`.

    Example:
        >>> embedder.compile("sgd", keras_dml.losses.Circle())
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=3, image_size=28
        ... )
        >>> history = embedder.fit(batches, verbose=0)

    Reference:
        [Sun et al., 2020](https://arxiv.org/abs/2002.10857), equations 5, 6 and 8.
    """

    def __init__(
        self,
        margin: float = 0.4,
        scale: float = 80.0,
        name: str = "circle",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.margin = checked_number(margin, "margin", least=0, below=1, example=0.4)
        self.scale = checked_number(scale, "scale", above=0, example=80.0)

    def batch_loss(
        self,
        positives: Tensor,
        negatives: Tensor,
        embeddings: Tensor,
        references: Tensor | None = None,
    ) -> Tensor:
        """Computes the loss of the batch."""
        cosines = pairwise_cosines(embeddings, references)
        fixed = ops.stop_gradient(cosines)
        pull = ops.relu(1 + self.margin - fixed) * (1 - self.margin - cosines)
        push = ops.relu(fixed + self.margin) * (cosines - self.margin)
        has_both = ops.logical_and(
            ops.any(positives, axis=-1), ops.any(negatives, axis=-1)
        )
        together = masked_logsumexp(self.scale * pull, positives)
        apart = masked_logsumexp(self.scale * push, negatives)
        return masked_mean(ops.softplus(together + apart), has_both)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, margin and scale included."""
        return {**super().get_config(), "margin": self.margin, "scale": self.scale}
