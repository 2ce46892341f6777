"""A callback that trains the new layers before the whole model."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import keras

from keras_dml._checks import checked_integer
from keras_dml._ops import IS_KERAS_2
from keras_dml.optimizers import SGD
from keras_dml.optimizers import LearningRateMultipliers


class FreezeTrunk(keras.callbacks.Callback):
    """Freezes the trunk's weights in the first epochs of `fit`, as the paper does.

    In those epochs only the new layers learn: the linear map and the class weights.
    The learning rate of the trunk's weights is multiplied by 0, and the trunk still
    runs in training mode: batch normalization normalizes by the statistics of the
    batch, and its running statistics are updated. With `trunk.trainable = False`
    Keras would run batch normalization in inference mode instead: normalize by the
    running statistics, and leave them as they are.

    After those epochs everything trains, with momentum and all else that the optimizer
    gathers as in a new one. The optimizer's `iterations`, which a learning-rate
    schedule goes by, are not reset. Moving averages of the weights (`use_ema`) begin
    anew with the next step. Multipliers that were set before come back.

    The model may have any optimizer of Keras, as `fit` puts it into
    `keras_dml.optimizers.LearningRateMultipliers`, unless it is one already or
    `keras_dml.optimizers.SGD`, which has multipliers of its own. The optimizer inside
    stays usable by itself: the model may be compiled with it again. A model that is
    saved after `fit` has the multipliers too. Weights files are only loaded, with the
    optimizer's state, into a model that was compiled with them: to resume from one,
    write `model.compile(LearningRateMultipliers(keras.optimizers.AdamW(1e-3)), ...)`.

    The trunk is frozen only within `fit`: a model that is trained on without this
    callback learns in all its parts, one that was saved in a frozen epoch too, or whose
    `fit` an error or Ctrl-C ended there. Where `fit` ends before all frozen epochs are
    over, that counts as their end.

    Args:
        trunk: the model whose weights are frozen, a part of the model that `fit`
            trains.
        epochs: how many epochs, 0 or more. The paper's is 1. With 0 the callback does
            nothing.

    Raises:
        ValueError: if trunk is not a model, or epochs is out of range; when training
            starts, if the trunk is not a part of the model, or its optimizer can't have
            multipliers: a `MultiOptimizer`, or on Keras 2.15 any but
            `keras_dml.optimizers.SGD`.

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
        """Finds the optimizer, gives it multipliers, and builds it if necessary."""
        if self.epochs == 0:
            return
        with self._scope():
            self.optimizer = self._with_multipliers()
            # Keras 2.15's LossScaleOptimizer doesn't say.
            if not getattr(self.model.optimizer, "built", False):
                self.model.optimizer.build(self.model.trainable_variables)

    def _scope(self):
        """The distribution strategy's, which only TensorFlow has."""
        if keras.backend.backend() != "tensorflow":
            return contextlib.nullcontext()
        return self.model.distribute_strategy.scope()

    def _with_multipliers(self):
        """Gives the model's optimizer, also inside loss scaling; wraps it if needed."""
        model = self.model
        scaled = isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
        inner = model.optimizer.inner_optimizer if scaled else model.optimizer
        if isinstance(inner, SGD | LearningRateMultipliers):
            return inner
        if IS_KERAS_2:
            kind = type(inner)
            raise ValueError(
                "FreezeTrunk needs a model compiled with keras_dml.optimizers.SGD on "
                f"Keras 2.15; got {kind.__module__}.{kind.__name__}."
            )
        optimizer = LearningRateMultipliers(inner)
        optimizer.build(model.trainable_variables)
        if scaled:
            model.optimizer.inner_optimizer = optimizer
        else:
            model.optimizer = optimizer
        # What a saved model is compiled with, and the step that has the old optimizer.
        model._compile_config.config["optimizer"] = optimizer
        model.make_train_function(force=True)
        return optimizer

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Freezes the trunk, or unfreezes it once its epochs are over."""
        if epoch < self.epochs:
            self.optimizer.freeze(self.trunk.trainable_variables)
            self._unfreeze_in_the_next_fit()
        elif self.epochs:
            self._unfreeze()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Unfreezes the trunk after its last epoch."""
        if self.epochs and epoch + 1 >= self.epochs:
            self._unfreeze()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Unfreezes the trunk, for what comes after this `fit`."""
        if self.epochs:
            self._unfreeze()

    def _unfreeze_in_the_next_fit(self):
        """Lets the model unfreeze when it is trained again, as Keras calls no callback
        where an error or Ctrl-C ends `fit`."""
        model, optimizer, scope = self.model, self.optimizer, self._scope()

        def make_train_function(*args, **kwargs):
            del model.make_train_function
            with scope:
                optimizer.unfreeze()
            return model.make_train_function(*args, **kwargs)

        # What `fit` and `train_on_batch` call first.
        model.make_train_function = make_train_function

    def _unfreeze(self):
        vars(self.model).pop("make_train_function", None)
        with self._scope():  # Momentum's new values are variables for a moment.
            self.optimizer.unfreeze()
