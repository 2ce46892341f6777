"""What the losses on pairs of a batch share."""

import math

import keras

from keras_dml._ops import Loss
from keras_dml._ops import dtype_name
from keras_dml._ops import ops
from keras_dml.losses._batch import checked_labels


class PairLoss(Loss):
    """A loss on pairs of images of the batch; subclasses say which, and how.

    The pairs are those within the batch that the loss is given. Under
    `MirroredStrategy` that is the batch of one replica: no pair spans two of them,
    and the gradient is the mean of the replicas' own. Give each replica whole classes.

    A batch without a pair that the loss could use costs 0, with a gradient of 0. One
    with a NaN, an infinity, or an embedding whose square length is infinite costs NaN,
    and so a training that diverged can't pass unnoticed.

    The arithmetic is float32 or wider. Labels are compared as they are, before Keras
    makes float32 of them, in which those from 2²⁴ on collide; but JAX, unless told
    otherwise, cuts 64 bits to 32 before, so that there 2³² is 0. The value does not
    belong to single images, so there are no sample weights.

    Args:
        reduction: Keras's; "sum" multiplies the value by the size of the batch.
        dtype: Keras's; by default `keras.backend.floatx()`, but no half precision.
        name: Keras's.

    Call arguments:
        y_true: (batch,) or (batch, 1) integer labels of the classes.
        y_pred: (batch, dim) embeddings.

    Raises:
        ValueError: if the shapes are others, or there are sample weights.
    """

    def __init__(self, name=None, reduction="sum_over_batch_size", dtype=None):
        """Takes what every Keras loss takes."""
        if dtype is None and keras.backend.floatx() != "float64":
            dtype = "float32"
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Gives the loss of a batch."""
        kind = type(self).__name__
        if sample_weight is not None:
            raise ValueError(
                f"{kind} takes no sample_weight (nor class_weight), as its value does "
                "not belong to single images. Leave it out."
            )
        y_pred = ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) != 2:
            raise ValueError(
                f"{kind} takes embeddings of shape (batch, dim); got "
                f"{tuple(y_pred.shape)}."
            )
        labels = checked_labels(y_true, y_pred, kind)
        return super().__call__(labels[:, None] == labels[None, :], y_pred)

    def call(self, same_class, embeddings):
        """Gives each image the value of the batch, whose mean it is.

        Args:
            same_class: (batch, batch), 1 for two images of one class, else 0.
            embeddings: (batch, dim) floats.
        """
        if dtype_name(embeddings.dtype) != "float64":
            embeddings = ops.cast(embeddings, "float32")
        same_class = ops.cast(same_class, "bool")
        positions = ops.arange(ops.shape(embeddings)[0])
        other_image = positions[:, None] != positions[None, :]
        value = self.value(
            ops.logical_and(same_class, other_image),
            ops.logical_not(same_class),
            embeddings,
        )
        # Comparisons with NaN are false, and so it would be no pair at all.
        is_finite = ops.sum(ops.square(embeddings)) < math.inf
        value = ops.where(is_finite, value, math.nan)
        return ops.zeros_like(embeddings[:, 0]) + value

    def value(self, positives, negatives, embeddings):
        """Computes the loss of the batch.

        Args:
            positives: (batch, batch) booleans, true for two images of one class.
            negatives: (batch, batch) booleans, true for two of different classes.
            embeddings: (batch, dim) float32 or float64.

        Returns:
            A scalar.
        """
        raise NotImplementedError
