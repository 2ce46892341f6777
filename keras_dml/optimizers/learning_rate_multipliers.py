"""Learning-rate multipliers for the optimizers of Keras."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras

from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import Optimizer
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.optimizers._multipliers import Multipliers


def _of_inner(name):
    """Makes an attribute that is the other optimizer's.

    What Keras's `__init__` sets, before there is the other one, is left out.
    """

    def read(self):
        return getattr(self.inner_optimizer, name)

    def write(self, value):
        if "inner_optimizer" in vars(self):
            setattr(self.inner_optimizer, name, value)

    return property(read, write)


@keras.saving.register_keras_serializable(package="keras_dml")
class LearningRateMultipliers(Multipliers, Optimizer):
    """An optimizer of Keras whose learning rate differs between variables.

    A variable's learning rate is the optimizer's times the variable's multiplier, 1
    until `set_multiplier` changes it, in the update and in decoupled weight decay, as
    in PyTorch's parameter groups. With 0 a variable stays as it is while the layers
    around it train, and batch normalization stays in training mode, which it would not
    with `trainable = False`.

    The multipliers are a variable of the optimizer: a training step that is compiled
    already follows them, and they are saved with it. All else, such as `learning_rate`,
    `iterations` and `weight_decay`, is the other optimizer's, and that one stays as
    usable as it was: a learning rate that is set on either holds for both, both count
    the same steps, and a model compiled with the other alone goes on without
    multipliers. Under mixed precision with float16, `model.compile` adds the loss
    scaling around it.

    `keras_dml.optimizers.SGD` has multipliers of its own. This class needs Keras 3.

    Args:
        optimizer: an optimizer of Keras, such as `keras.optimizers.AdamW(1e-3)`, or one
            with an `update_step` as Keras documents it. If it has made steps, this one
            goes on from there.
        name: of the optimizer.

    Raises:
        ValueError: if optimizer is no optimizer of Keras, has multipliers already, or
            is a `LossScaleOptimizer` or `MultiOptimizer`.

    Example:
        >>> optimizer = LearningRateMultipliers(keras.optimizers.AdamW(1e-3))
        >>> model.compile(
        ...     optimizer,
        ...     keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ... )
        >>> optimizer.build(model.trainable_variables)
        >>> optimizer.set_multiplier(trunk.trainable_variables, 0.1)
    """

    learning_rate = _of_inner("learning_rate")
    weight_decay = _of_inner("weight_decay")
    clipnorm = _of_inner("clipnorm")
    global_clipnorm = _of_inner("global_clipnorm")
    clipvalue = _of_inner("clipvalue")
    use_ema = _of_inner("use_ema")
    ema_momentum = _of_inner("ema_momentum")
    ema_overwrite_frequency = _of_inner("ema_overwrite_frequency")
    loss_scale_factor = _of_inner("loss_scale_factor")
    gradient_accumulation_steps = _of_inner("gradient_accumulation_steps")
    _iterations = _of_inner("_iterations")
    _learning_rate = _of_inner("_learning_rate")
    _trainable_variables = _of_inner("_trainable_variables")
    _trainable_variables_indices = _of_inner("_trainable_variables_indices")
    _model_variables_moving_average = _of_inner("_model_variables_moving_average")

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, name: str | None = None
    ) -> None:
        _check_optimizer(optimizer)
        # A function, as Keras makes a variable of a number.
        super().__init__(learning_rate=lambda: optimizer.learning_rate, name=name)
        # The variable that Keras makes for `iterations` counts the steps since momentum
        # was reset, by which Adam corrects its bias.
        (self._steps,) = super().variables
        self.inner_optimizer = optimizer
        self._steps.assign(int(ops.convert_to_numpy(optimizer._iterations)))

    def __getattr__(self, name: str) -> Any:
        """Gives what only the other optimizer has, such as Adam's `beta_1`."""
        if name.startswith("_") or name == "inner_optimizer":
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}"
            )
        return getattr(self.inner_optimizer, name)

    def build(self, variables: Sequence[Any]) -> None:
        """Creates the optimizer's variables.

        Args:
            variables: the model's trainable variables.
        """
        if self.built:
            return
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        self._add_multipliers(self._trainable_variables)
        self.built = True

    @property
    def variables(self) -> list[Any]:
        """All variables: steps since a reset, multipliers, then the other's."""
        return [*super().variables, *self.inner_optimizer.variables]

    def apply(
        self, grads: Sequence[Tensor], trainable_variables: Sequence[Any] | None = None
    ) -> None:
        """Updates the variables by their gradients.

        Args:
            grads: one a variable.
            trainable_variables: those of the gradients; None: those that it was built
                for.
        """
        if len(grads) == 0:
            return
        if not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        self._multiplied().apply(grads, trainable_variables)
        self._iterations.assign_add(1)

    def reset_momentum(self) -> None:
        """Gives momentum and all else that steps have gathered its value in a new one.

        The steps by which Adam corrects its bias are counted from here, and so are
        those that moving averages of the weights go by: they stay until the next step,
        which begins them anew. Learning rate, multipliers and `iterations`, which a
        schedule goes by, stay.
        """
        inner = self.inner_optimizer
        new = type(inner).from_config(inner.get_config())
        kept = [self._iterations, self._learning_rate]
        if inner.built:
            new.build(self._trainable_variables)
            kept += self._model_variables_moving_average if self.use_ema else []
        kept = set(map(id, kept))
        for variable, value in zip(inner.variables, new.variables, strict=True):
            if id(variable) not in kept:
                variable.assign(ops.convert_to_tensor(value))
        self._steps.assign(0)

    def _multiplied(self):
        """Gives the other optimizer with multipliers and with the steps since a reset.

        It is a second object on the same variables, so that the other one stays as its
        owner knows it.
        """
        inner = self.inner_optimizer
        twin = object.__new__(type(inner))
        decay, update = twin._apply_weight_decay, twin.update_step
        decaying = None

        def learning_rate():
            if decaying is None:
                return self.learning_rate
            return self.learning_rate * self._multiplier_at(decaying)

        def decay_each(variables):
            nonlocal decaying
            for variable in filter(twin._use_weight_decay, variables):
                decaying = self._get_variable_index(variable)
                try:
                    decay([variable])
                finally:
                    decaying = None

        def update_multiplied(gradient, variable, learning_rate):
            # Where the multiplier is 0, the momentum goes on and the variable is put
            # back: some rules divide by the learning rate, and others keep it in the
            # momentum.
            multiplier = self._multiplier(variable)
            before = ops.copy(variable)
            learns = multiplier > 0
            update(
                gradient, variable, learning_rate * ops.where(learns, multiplier, 1.0)
            )
            after = ops.where(learns, ops.convert_to_tensor(variable), before)
            self.assign(variable, after)

        # Not by setattr, which notes variables in lists that both share.
        vars(twin).update(
            vars(inner),
            _iterations=self._steps,
            _learning_rate=learning_rate,
            _apply_weight_decay=decay_each,
            update_step=update_multiplied,
        )
        if hasattr(twin, "_parallel_update_step"):
            update_all = functools.partial(
                self._update_all_multiplied, twin._parallel_update_step
            )
            vars(twin).update(_parallel_update_step=update_all)
        return twin

    def _update_all_multiplied(self, update_all, gradients, variables, learning_rate):
        # PyTorch's fused kernels have one learning rate, which all these rules are
        # linear in.
        import torch

        before = [variable.value.clone() for variable in variables]
        update_all(gradients, variables, learning_rate)
        for variable, value in zip(variables, before, strict=True):
            multiplier = self._multiplier(variable).to(value.dtype)
            variable.value.copy_(torch.lerp(value, variable.value, multiplier))

    def exclude_from_weight_decay(
        self,
        var_list: Iterable[Any] | None = None,
        var_names: Iterable[str] | None = None,
    ) -> None:
        """Excludes variables from weight decay, as the method of every optimizer."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Puts moving averages in place of the weights where the optimizer has them."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the other optimizer's included."""
        described = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"name": self.name, "optimizer": described}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> LearningRateMultipliers:
        """Makes one of its configuration."""
        # `keras.optimizers.deserialize` knows no Lamb.
        optimizer = keras.saving.deserialize_keras_object(
            config["optimizer"], custom_objects
        )
        return cls(optimizer, config["name"])


def _check_optimizer(optimizer):
    """Raises where an optimizer can't have multipliers."""
    if IS_KERAS_2:
        raise ValueError("LearningRateMultipliers needs Keras 3.")
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            "optimizer must be an optimizer of Keras, such as "
            f"keras.optimizers.AdamW(1e-3); got {optimizer!r}."
        )
    name = type(optimizer).__name__
    if isinstance(optimizer, Multipliers):
        raise ValueError(
            f"{name} has multipliers already: call its set_multiplier instead."
        )
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "optimizer must be the one inside the LossScaleOptimizer: "
            "LossScaleOptimizer(LearningRateMultipliers(...))."
        )
    if type(optimizer).update_step is keras.optimizers.Optimizer.update_step:
        raise ValueError(
            f"optimizer must have an update_step, which {name} has not: give one with "
            "a learning rate of its own."
        )
