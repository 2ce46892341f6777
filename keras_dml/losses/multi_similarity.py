"""Multi-similarity loss."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.losses._masked import masked_logsumexp
from keras_dml.losses._pairwise_cosines import pairwise_cosines
from keras_dml.losses.multi_similarity_miner import hard_pairs
from keras_dml.losses.pair_loss import PairLoss


@keras.saving.register_keras_serializable(package="keras_dml")
class MultiSimilarity(PairLoss):
    """Mines the pairs that are out of order, and weighs them by their cosine.

    The mean over all images i of the batch of

    `log(1 + Σ_k exp(-alpha (s(i, k) - base))) / alpha
    + log(1 + Σ_n exp(beta (s(i, n) - base))) / beta`,

    `s` being the cosine, k the positives of i with `s(i, k) - epsilon < max_n s(i, n)`
    and n its negatives with `s(i, n) + epsilon > min_k s(i, k)`, the extremes taken
    over all of them. An image with no such pair, or without positives or
    negatives, counts as 0.

    It is pytorch-metric-learning's `MultiSimilarityLoss` with `MultiSimilarityMiner`,
    and the authors' own code. TensorFlow Addons has none. A `miner` picks pairs first,
    and the loss mines among those.

    Args:
        alpha: the paper's α, above 0; its value is 2.
        beta: the paper's β, above 0; its value is 50.
        base: the paper's λ, a cosine. The default, 0.5, is that of the authors' code
            and pytorch-metric-learning, whose documentation gives 1 for the paper.
        epsilon: the slack of the mining, 0 or more; the paper's ε, 0.1.
        name: Keras's.
        **kwargs: those of `PairLoss`.

    Call arguments:
        y_true: (batch,) integer labels.
        y_pred: (batch, dim) embeddings, of any length.

    Raises:
        ValueError: if an argument is out of range, or as in `PairLoss`.

    Example:
        >>> embedder.compile("sgd", keras_dml.losses.MultiSimilarity())
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=3, image_size=28
        ... )
        >>> history = embedder.fit(batches, verbose=0)

    Reference:
        [Wang et al., 2019](https://arxiv.org/abs/1904.06627), equations 11, 12 and 15;
        [the authors' code](https://github.com/msight-tech/research-ms-loss).
    """

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        epsilon: float = 0.1,
        name: str = "multi_similarity",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.alpha = checked_number(alpha, "alpha", above=0, example=2.0)
        self.beta = checked_number(beta, "beta", above=0, example=50.0)
        self.base = checked_number(base, "base", example=0.5)
        self.epsilon = checked_number(epsilon, "epsilon", least=0, example=0.1)

    def batch_loss(
        self,
        positives: Tensor,
        negatives: Tensor,
        embeddings: Tensor,
        references: Tensor | None = None,
    ) -> Tensor:
        """Computes the loss of the batch."""
        cosines = pairwise_cosines(embeddings, references)
        positives, negatives = hard_pairs(positives, negatives, cosines, self.epsilon)
        together = ops.softplus(
            masked_logsumexp(self.alpha * (self.base - cosines), positives)
        )
        apart = ops.softplus(
            masked_logsumexp(self.beta * (cosines - self.base), negatives)
        )
        return ops.mean(together / self.alpha + apart / self.beta)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, alpha, beta, base and epsilon included."""
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "base": self.base,
            "epsilon": self.epsilon,
        }
