"""The base class of losses on the cosines of images with proxies."""

from __future__ import annotations

import math

from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.losses._label_loss import LabelLoss


class ProxyLoss(LabelLoss):
    """A loss on the cosines of images with proxies, which subclasses write.

    They do so in `image_losses`. There is one proxy a class.

    The arithmetic is float32 or wider. A label that is no class number makes the loss
    NaN on every backend, so that it does not go unnoticed; but JAX, unless told
    otherwise, cuts integers of 64 bits to 32 before the loss sees them, so that there
    2³² is 0.

    Args:
        name: Keras's.
        reduction: Keras's.
        dtype: Keras's; by default `keras.backend.floatx()`, but no half precision.

    Call arguments:
        y_true: (batch,) or (batch, 1) class numbers from 0.
        y_pred: (batch, classes) cosines, as `keras_dml.layers.Proxies` gives.

    Raises:
        ValueError: if the shapes are others, the batch is empty, or there are fewer
            than 2 classes.

    Example:
        A loss of one's own: 1 minus the cosine of the image's own class.

        >>> class Alignment(keras_dml.losses.ProxyLoss):
        ...     def image_losses(self, is_own, cosines):
        ...         return 1 - keras.ops.sum(keras.ops.where(is_own, cosines, 0), -1)
        >>> cosines = np.array([[1.0, 0.0], [0.0, 0.5]])
        >>> float(Alignment()(np.array([0, 1]), cosines))
        0.25
    """

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Computes the loss of a batch."""
        y_pred = ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) != 2 or y_pred.shape[1] == 1:
            raise ValueError(
                f"{type(self).__name__} takes cosines of shape (batch, classes) with 2 "
                "classes or more, as keras_dml.layers.Proxies gives; got "
                f"{tuple(y_pred.shape)}."
            )
        labels = self._checked_labels(y_true, y_pred)
        numbers = ops.cast(labels, "int32")
        # Neither 2³² nor 0.7 is class 0, which the cast makes of them.
        is_number = ops.cast(numbers, labels.dtype) == labels
        classes = ops.arange(ops.shape(y_pred)[1], dtype="int32")
        is_own = ops.logical_and(numbers[:, None] == classes, is_number[:, None])
        return super().__call__(is_own, y_pred, sample_weight)

    def call(self, is_own: Tensor, cosines: Tensor) -> Tensor:
        """Computes the loss of each image, NaN where its label is no class number.

        Args:
            is_own: (batch, classes), 1 for the image's own class, else 0.
            cosines: (batch, classes) floats.

        Returns:
            (batch,).
        """
        is_own = ops.cast(is_own, "bool")
        losses = self.image_losses(is_own, self._wide(cosines))
        return ops.where(ops.any(is_own, axis=-1), losses, math.nan)

    @property
    def logit_scale(self) -> float | None:
        """What a softmax over the classes multiplies the cosines of other classes by.

        None for a loss that is no such softmax; a subclass that is one, and gives the
        number, can be trained on drawn classes by `keras_dml.models.Classifier`.
        """
        return None

    def image_losses(self, is_own: Tensor, cosines: Tensor) -> Tensor:
        """Computes the loss of each image; a subclass must define it.

        Args:
            is_own: (batch, classes) booleans, true for the image's own class.
            cosines: (batch, classes) float32 or float64.

        Returns:
            (batch,).
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not define image_losses. Define it, or take "
            "a loss of keras_dml.losses that does."
        )
