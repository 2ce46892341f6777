"""The base class of losses on pairs of a batch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import keras

from keras_dml._ops import Tensor
from keras_dml._ops import dtype_name
from keras_dml._ops import gather_replicas
from keras_dml._ops import integer_labels
from keras_dml._ops import ops
from keras_dml.losses._label_loss import LabelLoss


class PairLoss(LabelLoss):
    """A loss on pairs of images of the batch, which subclasses write in `batch_loss`.

    The pairs are those of the whole batch. Under `MirroredStrategy` each replica
    gathers the embeddings and labels of all, so that value and gradient are those of
    one device with the same batch. `keras_dml.models.CrossBatchMemory` compares the
    batch with images of past batches as well.

    A batch without a pair that the loss could use costs 0, with a gradient of 0. One
    with a NaN, an infinity, an embedding whose squared length is infinite, or a label
    that is no whole number costs NaN, so that neither a training that diverged nor
    wrong labels go unnoticed.

    The arithmetic is float32 or wider. Labels are compared as they are, before Keras
    makes float32 of them, in which those from 2²⁴ on collide; but JAX, unless told
    otherwise, cuts 64 bits to 32 before, so that there 2³² is 0. The value does not
    belong to single images, so there are no sample weights.

    Args:
        name: Keras's.
        reduction: Keras's; "sum" multiplies the value by the size of the batch.
        dtype: Keras's; by default `keras.backend.floatx()`, but no half precision.
        miner: picks the pairs to learn from, such as `MultiSimilarityMiner`; None, the
            default, takes all. A function `(positives, negatives, embeddings,
            references) -> (positives, negatives)` of arrays: two (batch, references)
            masks of booleans, (batch, dim) embeddings, and the (references, dim)
            embeddings of the columns, which are the batch itself or a memory; it gives
            the masks with fewer pairs. No gradient flows through it. To be saved with
            a model it must be what Keras can serialize: see
            `keras.saving.register_keras_serializable`.

    Call arguments:
        y_true: (batch,) or (batch, 1) integer labels of the classes.
        y_pred: (batch, dim) embeddings.

    Raises:
        ValueError: if the shapes are others, the batch is empty, there are sample
            weights, or miner is no function or gives other than two masks.

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

        A miner of one's own: leaves out negatives that are far apart.

        >>> def near(positives, negatives, embeddings, references):
        ...     distances = keras_dml.losses.pairwise_distances(
        ...         embeddings, references=references
        ...     )
        ...     return positives, keras.ops.logical_and(negatives, distances < 6)
        >>> loss = keras_dml.losses.Contrastive(margin=10.0, miner=near)
        >>> float(loss(np.array([2, 2, 5]), embeddings))  # ½ 5² + ½ (10 - 5)²
        25.0
    """

    def __init__(
        self,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: str | None = None,
        miner: Callable[..., tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if isinstance(miner, dict):
            miner = keras.saving.deserialize_keras_object(miner)
        if miner is not None and not callable(miner):
            raise ValueError(
                "miner must be a function of (positives, negatives, embeddings, "
                f"references), or None; got {miner!r}."
            )
        self.miner = miner

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
        loss = super().__call__(labels[:, None] == labels[None, :], y_pred)
        return _nan_unless_whole(loss, labels)

    def call(self, same_class: Tensor, embeddings: Tensor) -> Tensor:
        """Gives each image the value of the batch, so that Keras's mean is that value.

        Args:
            same_class: (batch, batch), 1 for two images of one class, else 0; or, with
                a memory, a pair of that, (batch, references), and of the pairs to use.
            embeddings: (batch, dim) floats, this replica's where there are several; or,
                with a memory, a pair of that and of the references.

        Returns:
            One number for each of the embeddings, all the same.
        """
        references = None
        if isinstance(embeddings, tuple):
            (same_class, is_pair), (embeddings, references) = same_class, embeddings
        images = embeddings[:, 0]
        embeddings = gather_replicas(self._wide(embeddings))
        same_class = ops.cast(same_class, "bool")
        if references is None:
            positions = ops.arange(ops.shape(embeddings)[0])
            other_image = positions[:, None] != positions[None, :]
            positives = ops.logical_and(same_class, other_image)
            negatives = ops.logical_not(same_class)
            value = self._mined_loss(positives, negatives, embeddings)
        else:
            is_pair = ops.cast(is_pair, "bool")
            positives = ops.logical_and(same_class, is_pair)
            negatives = ops.logical_and(ops.logical_not(same_class), is_pair)
            references = self._wide(references)
            value = self._mined_loss(positives, negatives, embeddings, references)
        return ops.zeros_like(self._wide(images)) + value

    def _mined_loss(self, positives, negatives, embeddings, *references):
        """Gives `batch_loss` of the pairs that the miner picks, or NaN."""
        if self.miner is not None:
            fixed = [ops.stop_gradient(x) for x in (embeddings, *references)]
            some = self.miner(positives, negatives, fixed[0], fixed[-1])
            _check_masks(some, positives)
            positives = ops.logical_and(positives, ops.cast(some[0], "bool"))
            negatives = ops.logical_and(negatives, ops.cast(some[1], "bool"))
        value = self.batch_loss(positives, negatives, embeddings, *references)
        # Comparisons with NaN are false, so that a loss may find no pair and give 0.
        for x in (embeddings, *references):
            value = ops.where(ops.sum(ops.square(x)) < math.inf, value, math.nan)
        return value

    @property
    def takes_references(self) -> bool:
        """Whether `batch_loss` can compare the batch with other images than its own."""
        return len(inspect.signature(self.batch_loss).parameters) > 3

    def memory_loss(
        self,
        labels: Tensor,
        embeddings: Tensor,
        memory_labels: Tensor,
        memory: Tensor,
        is_pair: Tensor,
    ) -> Tensor:
        """Computes the loss of a batch against a memory, for `CrossBatchMemory`.

        Args:
            labels: (piece,) or (piece, 1) numbers: the batch, or a replica's piece of
                it. The loss is NaN where one is no whole number.
            embeddings: (piece, dim).
            memory_labels: (size,) integers.
            memory: (size, dim) embeddings.
            is_pair: (batch, size) booleans, false for what is not to be compared.

        Returns:
            The loss, reduced as Keras reduces that of a batch.
        """
        labels = ops.convert_to_tensor(labels)
        integers = gather_replicas(integer_labels(labels))
        integers = ops.cast(integers, dtype_name(memory_labels.dtype))
        same_class = integers[:, None] == memory_labels[None, :]
        loss = super().__call__((same_class, is_pair), (embeddings, memory))
        return _nan_unless_whole(loss, labels)

    def batch_loss(
        self, positives: Tensor, negatives: Tensor, embeddings: Tensor
    ) -> Tensor:
        """Computes the loss of the batch; a subclass must define it.

        One with a fourth argument, `references=None`, can be trained with a memory as
        well. It is (references, dim), the embeddings of the columns; None, and left out
        of the call, where they are those of the batch.

        Args:
            positives: (batch, references) booleans, true for two images of one class.
            negatives: (batch, references) booleans, true for two of different classes.
                A pair may be neither.
            embeddings: (batch, dim) float32 or float64.

        Returns:
            A scalar.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define batch_loss. Define it, or take "
            "a loss of keras_dml.losses that does."
        )

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the miner included."""
        miner = self.miner
        if miner is not None:
            miner = keras.saving.serialize_keras_object(miner)
        return {**super().get_config(), "miner": miner}


def _nan_unless_whole(loss: Tensor, labels: Tensor) -> Tensor:
    """Makes a loss NaN where a label is NaN, which equals none, or such as 0.5."""
    if "float" not in dtype_name(labels.dtype):
        return loss
    some_are_not_whole = ops.any(ops.floor(labels) != labels)
    return ops.where(ops.logical_not(some_are_not_whole), loss, math.nan)


def _check_masks(masks, pairs):
    """Raises if a miner gave something else than two masks of the pairs' shape."""
    got = f"a {type(masks).__name__}"
    if isinstance(masks, tuple | list):
        shapes = [tuple(getattr(mask, "shape", ())) for mask in masks]
        if len(shapes) == 2 and all(_may_equal(one, pairs.shape) for one in shapes):
            return
        got = f"{len(shapes)} of the shapes {shapes}"
    raise ValueError(
        "miner must return two masks of booleans, (positives, negatives), of the shape "
        f"{tuple(pairs.shape)} of those that it is given; got {got}."
    )


def _may_equal(shape, other):
    """Whether two shapes, of which TensorFlow may not know all sides, may be equal."""
    return len(shape) == len(other) and all(
        None in (side, wanted) or side == wanted
        for side, wanted in zip(shape, other, strict=True)
    )


def _wide_integers(labels: Tensor) -> Tensor:
    """Casts integers of 8 and 16 bits to 32, as GPUs do not gather those."""
    if dtype_name(labels.dtype) in ("int8", "uint8", "int16", "uint16"):
        return ops.cast(labels, "int32")
    return labels
