"""Supervised contrastive loss (SupCon)."""

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
class SupervisedContrastive(PairLoss):
    """Classifies each positive among all other images; known as SupCon.

    The mean over the images i that have positives k of

    `mean_k (log(Σ_a exp(s(i, a) / temperature)) - s(i, k) / temperature)`,

    `s` being the cosine and a all other images. It is the paper's L_out, the better of
    its two. A batch of one class costs 0, as there is nothing to tell apart.

    It is pytorch-metric-learning's `SupConLoss`. The authors' code multiplies it by
    temperature / 0.07, which is 1 at its own default of 0.07. The paper trains on two
    crops of each image: give them as two images of the class.

    Args:
        temperature: the paper's τ, above 0. The default, 0.1, is the paper's.
        name: Keras's.
        **kwargs: those of `PairLoss`.

    Call arguments:
        y_true: (batch,) integer labels.
        y_pred: (batch, dim) embeddings, of any length.

    Raises:
        ValueError: if the temperature is out of range, or as in `PairLoss`.

    Example:
        >>> embedder.compile("sgd", keras_dml.losses.SupervisedContrastive())
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=3, image_size=28
        ... )
        >>> history = embedder.fit(batches, verbose=0)

    Reference:
        [Khosla et al., 2020](https://arxiv.org/abs/2004.11362), equation 2;
        [the authors' code](https://github.com/HobbitLong/SupContrast).
    """

    def __init__(
        self,
        temperature: float = 0.1,
        name: str = "supervised_contrastive",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.temperature = checked_number(
            temperature, "temperature", above=0, example=0.1
        )

    def batch_loss(
        self,
        positives: Tensor,
        negatives: Tensor,
        embeddings: Tensor,
        references: Tensor | None = None,
    ) -> Tensor:
        """Computes the loss of the batch."""
        logits = pairwise_cosines(embeddings, references) / self.temperature
        partition = masked_logsumexp(logits, ops.logical_or(positives, negatives))
        losses = ops.where(positives, partition[:, None] - logits, 0)
        counts = ops.sum(ops.cast(positives, logits.dtype), axis=-1)
        losses = ops.sum(losses, axis=-1) / ops.maximum(counts, 1)
        is_used = ops.logical_and(ops.any(positives, axis=-1), ops.any(negatives))
        return masked_mean(losses, is_used)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the temperature included."""
        return {**super().get_config(), "temperature": self.temperature}
