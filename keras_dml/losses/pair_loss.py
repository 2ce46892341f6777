"""The base class of losses on pairs of a batch."""

from __future__ import annotations

import math

from keras_dml._ops import Tensor
from keras_dml._ops import dtype_name
from keras_dml._ops import gather_replicas
from keras_dml._ops import ops
from keras_dml.losses._label_loss import LabelLoss


class PairLoss(LabelLoss):
    """A loss on pairs of images of the batch, which subclasses write in `batch_loss`.

    The pairs are those of the whole batch. Under `MirroredStrategy` each replica
    gathers the embeddings and labels of all, so that value and gradient are those of
    one device with the same batch.

    A batch without a pair that the loss could use costs 0, with a gradient of 0. One
    with a NaN, an infinity, or an embedding whose squared length is infinite costs
    NaN, so that a training that diverged does not go unnoticed.

    The arithmetic is float32 or wider. Labels are compared as they are, before Keras
    makes float32 of them, in which those from 2²⁴ on collide; but JAX, unless told
    otherwise, cuts 64 bits to 32 before, so that there 2³² is 0. The value does not
    belong to single images, so there are no sample weights.

    Args:
        name: Keras's.
        reduction: Keras's; "sum" multiplies the value by the size of the batch.
        dtype: Keras's; by default `keras.backend.floatx()`, but no half precision.

    Call arguments:
        y_true: (batch,) or (batch, 1) integer labels of the classes.
        y_pred: (batch, dim) embeddings.

    Raises:
        ValueError: if the shapes are others, or there are sample weights.

    Example:
        A loss of one's own: the mean distance of two images of one class.

        >>> class Compactness(keras_dml.losses.PairLoss):
        ...     def batch_loss(self, positives, negatives, embeddings):
        ...         distances = keras_dml.losses.pairwise_distances(embeddings)
        ...         is_pair = keras.ops.cast(positives, distances.dtype)
        ...         return keras.ops.sum(distances * is_pair) / keras.ops.sum(is_pair)
        >>> embeddings = np.array([[0.0, 0.0], [3.0, 4.0], [7.0, 7.0]])
        >>> float(Compactness()(np.array([2, 2, 5]), embeddings))
        5.0
    """

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Computes the loss of a batch."""
        self._refuse_sample_weight(sample_weight)
        y_pred = ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) != 2:
            raise ValueError(
                f"{type(self).__name__} takes embeddings of shape (batch, dim); got "
                f"{tuple(y_pred.shape)}."
            )
        labels = gather_replicas(_wide_integers(self._checked_labels(y_true, y_pred)))
        return super().__call__(labels[:, None] == labels[None, :], y_pred)

    def call(self, same_class: Tensor, embeddings: Tensor) -> Tensor:
        """Gives each image the value of the batch, so that Keras's mean is that value.

        Args:
            same_class: (batch, batch), 1 for two images of one class, else 0.
            embeddings: (batch, dim) floats; this replica's where there are several.

        Returns:
            One number for each of the embeddings, all the same.
        """
        images = embeddings[:, 0]
        embeddings = gather_replicas(self._wide(embeddings))
        same_class = ops.cast(same_class, "bool")
        positions = ops.arange(ops.shape(embeddings)[0])
        other_image = positions[:, None] != positions[None, :]
        value = self.batch_loss(
            ops.logical_and(same_class, other_image),
            ops.logical_not(same_class),
            embeddings,
        )
        # Comparisons with NaN are false, so that a loss may find no pair and give 0.
        is_finite = ops.sum(ops.square(embeddings)) < math.inf
        value = ops.where(is_finite, value, math.nan)
        return ops.zeros_like(self._wide(images)) + value

    def batch_loss(
        self, positives: Tensor, negatives: Tensor, embeddings: Tensor
    ) -> Tensor:
        """Computes the loss of the batch; a subclass must define it.

        Args:
            positives: (batch, batch) booleans, true for two images of one class.
            negatives: (batch, batch) booleans, true for two of different classes.
            embeddings: (batch, dim) float32 or float64.

        Returns:
            A scalar.
        """
        raise NotImplementedError


def _wide_integers(labels: Tensor) -> Tensor:
    """Casts integers of 8 and 16 bits to 32, as GPUs do not gather those."""
    if dtype_name(labels.dtype) in ("int8", "uint8", "int16", "uint16"):
        return ops.cast(labels, "int32")
    return labels
