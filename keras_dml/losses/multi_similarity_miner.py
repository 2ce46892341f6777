"""The miner of the multi-similarity loss, for any loss on pairs."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.losses._masked import masked_max
from keras_dml.losses._masked import masked_min
from keras_dml.losses._pairwise_cosines import pairwise_cosines


@keras.saving.register_keras_serializable(package="keras_dml")
class MultiSimilarityMiner:
    """Picks the pairs that are out of order: positives too far, negatives too near.

    Of the image i it takes the positives k with `s(i, k) - epsilon < max_n s(i, n)` and
    the negatives n with `s(i, n) + epsilon > min_k s(i, k)`, `s` being the cosine and
    the extremes those over all its positives and negatives; none of an image that has
    not both. `MultiSimilarity` mines so by itself; this is for the `miner` of other
    losses on pairs. It is pytorch-metric-learning's `MultiSimilarityMiner`.

    Args:
        epsilon: the slack, 0 or more. The default, 0.1, is the paper's ε.

    Call arguments:
        positives: (batch, references) booleans, true for two images of one class.
        negatives: (batch, references) booleans, true for two of different classes.
        embeddings: (batch, dim) floats, of any length.
        references: (references, dim) floats, the embeddings of the columns.

    Returns:
        (positives, negatives): the masks with the pairs that are left.

    Raises:
        ValueError: if epsilon is out of range.

    Example:
        >>> miner = keras_dml.losses.MultiSimilarityMiner(epsilon=0.1)
        >>> embedder.compile("sgd", keras_dml.losses.Contrastive(miner=miner))

    Reference:
        [Wang et al., 2019](https://arxiv.org/abs/1904.06627), equations 11 and 12.
    """

    def __init__(self, epsilon: float = 0.1) -> None:
        self.epsilon = checked_number(epsilon, "epsilon", least=0, example=0.1)

    def __call__(
        self,
        positives: Tensor,
        negatives: Tensor,
        embeddings: Tensor,
        references: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Picks pairs of each kind."""
        cosines = pairwise_cosines(embeddings, references)
        return hard_pairs(positives, negatives, cosines, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, epsilon included."""
        return {"epsilon": self.epsilon}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MultiSimilarityMiner:
        """Makes a miner from what `get_config` gave."""
        return cls(**config)


def hard_pairs(
    positives: Tensor, negatives: Tensor, cosines: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Gives the (positives, negatives) that are out of order by their cosines."""
    nearest_negative = masked_max(cosines, negatives)[:, None]
    farthest_positive = masked_min(cosines, positives)[:, None]
    has_both = ops.logical_and(
        ops.any(positives, axis=-1), ops.any(negatives, axis=-1)
    )[:, None]
    is_far = ops.logical_and(cosines - epsilon < nearest_negative, has_both)
    is_near = ops.logical_and(cosines + epsilon > farthest_positive, has_both)
    return ops.logical_and(positives, is_far), ops.logical_and(negatives, is_near)
