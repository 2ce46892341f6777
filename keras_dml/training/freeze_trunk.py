"""A callback that trains the new layers before the whole model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_dml._checks import checked_integer
from keras_dml.optimizers import SGD


class FreezeTrunk(keras.callbacks.Callback):
    """Freezes the trunk's weights in the first epochs of `fit`, as the paper does.

    In those epochs only the new layers learn: the linear map and the class weights.
    The learning rate of the trunk's weights is multiplied by 0, and the trunk still
    runs in training mode: batch normalization normalizes by the statistics of the
    batch, and its running statistics are updated. With `trunk.trainable = False`
    Keras would run batch normalization in inference mode instead: normalize by the
    running statistics, and leave them as they are.

    After those epochs everything trains, with the momentum reset to zero as in a new
    optimizer. The optimizer's `iterations`, which a learning-rate schedule goes by, are
    not reset. The trunk is frozen only during an epoch: a model that is saved after
    one, or trained on without this callback, learns in all its parts.

    Args:
        trunk: the model whose weights are frozen, a part of the model that `fit`
            trains.
        epochs: how many epochs, 0 or more. The paper's is 1. With 0 the callback does
            nothing, and the model may have any optimizer.

    Raises:
        ValueError: if trunk is not a model, or epochs is out of range; when training
            starts, if the model is not compiled with `keras_dml.optimizers.SGD`, or
            the trunk is not a part of it.

    Example:
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=3, image_size=28
        ... )
        >>> history = model.fit(
        ...     batches, epochs=2, verbose=0, callbacks=[FreezeTrunk(trunk)]
        ... )

    Reference:
        The released code of [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649).
    """

    def __init__(self, trunk: keras.Model, epochs: int = 1):
        super().__init__()
        if not isinstance(trunk, keras.Model):
            raise ValueError(f"trunk must be a keras.Model; got {trunk!r}.")
        self.trunk = trunk
        self.epochs = checked_integer(epochs, "epochs", 0)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Finds the optimizer, also inside loss scaling, and builds it if necessary."""
        if self.epochs == 0:
            return
        optimizer = self.model.optimizer
        # Mixed precision with float16 wraps it.
        self.optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        kind = type(self.optimizer)
        if not issubclass(kind, SGD):
            raise ValueError(
                "FreezeTrunk needs a model compiled with keras_dml.optimizers.SGD; got "
                f"{kind.__module__}.{kind.__name__}."
            )
        with self.model.distribute_strategy.scope():
            optimizer.build(self.model.trainable_variables)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Freezes the trunk, or unfreezes it once its epochs are over."""
        if self.epochs == 0:
            return
        variables = self.trunk.trainable_variables
        self.optimizer.set_multiplier(variables, float(epoch >= self.epochs))
        if epoch == self.epochs:
            self.optimizer.reset_momentum()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Unfreezes the trunk, for what comes after the last epoch of this `fit`."""
        if self.epochs == 0:
            return
        self.optimizer.set_multiplier(self.trunk.trainable_variables, 1.0)
