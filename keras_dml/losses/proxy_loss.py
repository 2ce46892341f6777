"""What the losses on proxies share."""

import math

import keras

from keras_dml._ops import Loss
from keras_dml._ops import dtype_name
from keras_dml._ops import ops
from keras_dml.losses._batch import checked_labels


class ProxyLoss(Loss):
    """A loss on the cosines of images with one proxy a class; subclasses say which.

    The arithmetic is float32 or wider. A label that is no class number makes the loss
    NaN on every backend, and so can't pass unnoticed; but JAX, unless told otherwise,
    cuts integers of 64 bits to 32 before the loss sees them, so that there 2³² is 0.

    Args:
        reduction: Keras's.
        dtype: Keras's; by default `keras.backend.floatx()`, but no half precision.
        name: Keras's.

    Call arguments:
        y_true: (batch,) or (batch, 1) class numbers from 0.
        y_pred: (batch, classes) cosines, as `keras_dml.layers.Proxies` gives.

    Raises:
        ValueError: if the shapes are others, or there are fewer than 2 classes.
    """

    def __init__(self, name=None, reduction="sum_over_batch_size", dtype=None):
        """Takes what every Keras loss takes."""
        if dtype is None and keras.backend.floatx() != "float64":
            dtype = "float32"
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Gives the loss of a batch."""
        kind = type(self).__name__
        y_pred = ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) != 2 or y_pred.shape[1] == 1:
            raise ValueError(
                f"{kind} takes cosines of shape (batch, classes) with 2 classes or "
                "more, as keras_dml.layers.Proxies gives; got "
                f"{tuple(y_pred.shape)}."
            )
        labels = checked_labels(y_true, y_pred, kind)
        numbers = ops.cast(labels, "int32")
        # Neither 2³² nor 0.7 is class 0, which the cast makes of them.
        is_number = ops.cast(numbers, labels.dtype) == labels
        classes = ops.arange(y_pred.shape[1], dtype="int32")
        is_own = ops.logical_and(numbers[:, None] == classes, is_number[:, None])
        return super().__call__(is_own, y_pred, sample_weight)

    def call(self, is_own, cosines):
        """Gives the loss of each image.

        Args:
            is_own: (batch, classes), 1 for the image's own class, else 0.
            cosines: (batch, classes) floats.
        """
        if dtype_name(cosines.dtype) != "float64":
            cosines = ops.cast(cosines, "float32")
        is_own = ops.cast(is_own, "bool")
        losses = self.losses(is_own, cosines)
        return ops.where(ops.any(is_own, axis=-1), losses, math.nan)

    def losses(self, is_own, cosines):
        """Computes the loss of each image.

        Args:
            is_own: (batch, classes) booleans, true for the image's own class.
            cosines: (batch, classes) float32 or float64.

        Returns:
            (batch,).
        """
        raise NotImplementedError
