"""What `PairLoss` and `ProxyLoss` share: float32 or wider, and checks on labels."""

from __future__ import annotations

import keras

from keras_dml._ops import Loss
from keras_dml._ops import Tensor
from keras_dml._ops import dtype_name
from keras_dml._ops import ops


class LabelLoss(Loss):
    """A loss that compares predictions by the integer labels of their images.

    Args:
        name: Keras's.
        reduction: Keras's.
        dtype: Keras's; by default `keras.backend.floatx()`, but no half precision.
    """

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: str | None = None,
    ) -> None:
        if dtype is None and keras.backend.floatx() != "float64":
            dtype = "float32"
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def _checked_labels(self, labels: Tensor, predictions: Tensor) -> Tensor:
        """Gives the labels as (batch,), once their shape is known to be right.

        Args:
            labels: (batch,) or (batch, 1) integers.
            predictions: (batch, …).

        Raises:
            ValueError: if the shape is another, or of another batch or an empty one.
        """
        labels = ops.convert_to_tensor(labels)
        if len(labels.shape) != 1 and tuple(labels.shape[1:]) != (1,):
            raise ValueError(
                f"{type(self).__name__} takes integer labels of shape (batch,), not "
                f"one-hot ones; got {tuple(labels.shape)}."
            )
        found, wanted = labels.shape[0], predictions.shape[0]
        if None not in (found, wanted) and found != wanted:
            raise ValueError(
                f"{type(self).__name__} takes one label for each embedding; got "
                f"{found} labels for {wanted} embeddings. Give both of the same images."
            )
        if 0 in (found, wanted):
            raise ValueError(
                f"{type(self).__name__} takes a batch of one image or more; got none."
            )
        return ops.reshape(labels, (-1,))

    def _refuse_sample_weight(self, sample_weight: Tensor | None) -> None:
        """Raises where there are sample weights, for a loss that cannot use them."""
        if sample_weight is not None:
            raise ValueError(
                f"{type(self).__name__} takes no sample_weight (nor class_weight), as "
                "its value does not belong to single images. Leave it out."
            )

    def _wide(self, x: Tensor) -> Tensor:
        """Casts half precision to float32."""
        return x if dtype_name(x.dtype) == "float64" else ops.cast(x, "float32")
