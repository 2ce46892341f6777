"""A regularizer that draws the centers of a class together."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._checks import checked_integer
from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.layers.l2_normalization import l2_normalize


@keras.saving.register_keras_serializable(package="keras_dml")
class CenterMerging(keras.regularizers.Regularizer):
    """Draws the centers of each class of `Proxies` together, as SoftTriple does.

    `rate / (C K (K - 1)) Σ_z Σ_{s<t} |p_zs - p_zt|`, with centers scaled to length 1,
    over the C classes z and the pairs of their K centers. A sum of distances, not of
    their squares: centers that a class does not need end at the same point.

    It is pytorch-metric-learning's `SparseCentersRegularizer` times rate. Distances
    that are 0 within the rounding of float32 have no gradient.

    Args:
        rate: what the term counts in the loss, 0 or more. The default, 0.2, is the
            paper's τ.
        centers: how many centers a class has, 2 or more, as in `Proxies`; the default,
            10, is the paper's K.

    Call arguments:
        class_weights: (classes * centers, dim), the centers of a class next to each
            other.

    Raises:
        ValueError: if an argument is out of range, or the rows are no multiple of
            centers.

    Example:
        >>> merging = keras_dml.layers.CenterMerging(rate=1.0, centers=2)
        >>> float(merging(np.array([[2.0, 0.0], [0.0, 3.0]])))  # √2 / (1 · 2 · 1)
        0.7071...

    Reference:
        [Qian et al., 2019](https://arxiv.org/abs/1909.05235), section 3.4.
    """

    def __init__(self, rate: float = 0.2, centers: int = 10) -> None:
        self.rate = checked_number(rate, "rate", least=0, example=0.2)
        self.centers = checked_integer(centers, "centers", 2)

    def __call__(self, class_weights: Tensor) -> Tensor:
        """Computes the term of the loss."""
        class_weights = ops.convert_to_tensor(class_weights)
        rows, dim = class_weights.shape
        if rows % self.centers:
            raise ValueError(
                f"CenterMerging(centers={self.centers}) needs class weights with a "
                f"multiple of {self.centers} rows; got {rows}. Give Proxies the same "
                "centers."
            )
        units = ops.reshape(l2_normalize(class_weights), (-1, self.centers, dim))
        cosines = units @ ops.transpose(units, (0, 2, 1))
        squares = 2 - 2 * cosines
        is_apart = squares > 1e-6
        # The root never sees what is left out, or its gradient would be infinite.
        distances = ops.where(is_apart, ops.sqrt(ops.where(is_apart, squares, 1)), 0)
        # Both orders of each pair, hence the 2.
        return self.rate * ops.sum(distances) / (2 * rows * (self.centers - 1))

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, rate and centers."""
        return {"rate": self.rate, "centers": self.centers}
