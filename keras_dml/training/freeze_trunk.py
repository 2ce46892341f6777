"""Training the new layers before the whole model."""

import keras

from keras_dml.optimizers import SGD


class FreezeTrunk(keras.callbacks.Callback):
    """Keeps the trunk's weights still in the first epochs of `fit`, as the paper does.

    In those epochs only the new layers learn: the linear map and the class weights.
    The trunk still runs in training mode, so batch normalization uses the statistics
    of the batch and its running statistics move; `trunk.trainable = False` would stop
    both. Then everything trains, from a momentum of zero, like with a new optimizer.
    The optimizer's `iterations`, which a schedule goes by, count on. The
    trunk is still only within an epoch: a model that is saved after one, or trained on
    without this callback, learns in all its parts.

    Args:
        trunk: the model whose weights are kept still.
        epochs: how many epochs, 0 or more. The paper's is 1. With 0 nothing is done,
            and any optimizer will do.

    Raises:
        ValueError: if trunk is not a model, or epochs is out of range; when training
            starts, if the model is not compiled with `keras_dml.optimizers.SGD`, or
            the trunk is not a part of it.

    Example:
        >>> model.fit(batches, epochs=31, callbacks=[FreezeTrunk(trunk)])

    Reference:
        The released code of [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649).
    """

    def __init__(self, trunk: keras.Model, epochs: int = 1):
        """Checks the epochs; the class docstring has the arguments."""
        super().__init__()
        if not isinstance(trunk, keras.Model):
            raise ValueError(f"trunk must be a keras.Model; got {trunk!r}.")
        if not (isinstance(epochs, int) and epochs >= 0):
            raise ValueError(
                f"epochs must be an integer of at least 0; got {epochs!r}."
            )
        self.trunk = trunk
        self.epochs = epochs

    def on_train_begin(self, logs=None):
        """Finds the optimizer, inside loss scaling too, and builds it if need be."""
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

    def on_epoch_begin(self, epoch, logs=None):
        """Stills the trunk, or frees it."""
        if self.epochs == 0:
            return
        variables = self.trunk.trainable_variables
        self.optimizer.set_multiplier(variables, float(epoch >= self.epochs))
        if epoch == self.epochs:
            self.optimizer.reset_momentum()

    def on_epoch_end(self, epoch, logs=None):
        """Frees the trunk, for whatever comes after the epochs of this `fit`."""
        if self.epochs == 0:
            return
        self.optimizer.set_multiplier(self.trunk.trainable_variables, 1.0)
