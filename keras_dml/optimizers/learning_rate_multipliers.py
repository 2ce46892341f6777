"""Learning-rate multipliers for the optimizers of Keras."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras

from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import Optimizer
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.optimizers._multipliers import Multipliers


@keras.saving.register_keras_serializable(package="keras_dml")
class LearningRateMultipliers(Multipliers, Optimizer):
    """An optimizer of Keras whose learning rate differs between variables.

    A variable's learning rate is the optimizer's times the variable's multiplier, 1
    until `set_multiplier` changes it, in the update and in decoupled weight decay, as
    in PyTorch's parameter groups. With 0 a variable stays as it is while the layers
    around it train, and batch normalization stays in training mode, which it would not
    with `trainable = False`.

    The multipliers are a variable of the optimizer: a training step that is compiled
    already follows them, and they are saved with it. `learning_rate` and `iterations`
    are those of the whole. Under mixed precision with float16, `model.compile` adds the
    loss scaling around it.

    `keras_dml.optimizers.SGD` has multipliers of its own. This class needs Keras 3.

    Args:
        optimizer: an optimizer of Keras, such as `keras.optimizers.AdamW(1e-3)`, or one
            with an `update_step` as Keras documents it. It is used up: it follows the
            learning rate of this one from now on. If it has made steps, it goes on from
            there.
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

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, name: str | None = None
    ) -> None:
        _check_optimizer(optimizer)
        rate = optimizer._learning_rate
        if isinstance(rate, keras.Variable):
            rate = float(ops.convert_to_numpy(rate))
        super().__init__(learning_rate=rate, name=name)
        self._iterations.assign(int(optimizer._iterations))
        # This one counts the steps and has the schedule. The other counts the steps
        # since its momentum was reset, by which Adam corrects its bias.
        optimizer.learning_rate = self._rate_of_current
        self.inner_optimizer = optimizer
        self._current = None
        self._decay = optimizer._apply_weight_decay
        optimizer._apply_weight_decay = self._decay_each
        self._update = optimizer.update_step
        optimizer.update_step = self._update_multiplied
        if hasattr(optimizer, "_parallel_update_step"):
            self._update_all = optimizer._parallel_update_step
            optimizer._parallel_update_step = self._update_all_multiplied

    def build(self, variables: Sequence[Any]) -> None:
        """Creates the optimizer's variables.

        Args:
            variables: the model's trainable variables.
        """
        if self.built:
            return
        super().build(variables)
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        self._add_multipliers(variables)

    @property
    def variables(self) -> list[Any]:
        """All variables: iterations, learning rate, multipliers, then the other's."""
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
        self.inner_optimizer.apply(grads, trainable_variables)
        self._iterations.assign_add(1)

    def reset_momentum(self) -> None:
        """Gives momentum and all else that steps have gathered its value in a new one.

        The steps by which Adam corrects its bias are counted from here. Learning rate,
        multipliers and `iterations`, which a schedule goes by, stay.
        """
        config = self._inner_config()["config"]
        new = type(self.inner_optimizer).from_config(
            {**config, "learning_rate": self._rate_of_current}
        )
        if self.inner_optimizer.built:
            new.build(self._trainable_variables)
        for variable, value in zip(
            self.inner_optimizer.variables, new.variables, strict=True
        ):
            variable.assign(ops.convert_to_tensor(value))

    def _rate_of_current(self):
        """Gives the learning rate; within weight decay that of the current variable."""
        if self._current is None:
            return self.learning_rate
        return self.learning_rate * self._multiplier_at(self._current)

    def _decay_each(self, variables):
        for variable in filter(self.inner_optimizer._use_weight_decay, variables):
            self._current = self._get_variable_index(variable)
            try:
                self._decay([variable])
            finally:
                self._current = None

    def _update_multiplied(self, gradient, variable, learning_rate):
        # Where the multiplier is 0, the momentum goes on and the variable is put back:
        # some rules divide by the learning rate, and others keep it in the momentum.
        multiplier = self._multiplier(variable)
        before = ops.copy(variable)
        learns = multiplier > 0
        self._update(
            gradient, variable, learning_rate * ops.where(learns, multiplier, 1.0)
        )
        self.assign(
            variable, ops.where(learns, ops.convert_to_tensor(variable), before)
        )

    def _update_all_multiplied(self, gradients, variables, learning_rate):
        # PyTorch's fused kernels have one learning rate, which all these rules are
        # linear in.
        import torch

        before = [variable.value.clone() for variable in variables]
        self._update_all(gradients, variables, learning_rate)
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

    @property
    def loss_scale_factor(self) -> float | None:
        """That of the optimizer inside."""
        return self.inner_optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor: float | None) -> None:
        if hasattr(self, "inner_optimizer"):
            self.inner_optimizer.loss_scale_factor = factor

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Puts moving averages in place of the weights where the optimizer has them."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the other optimizer's included."""
        return {"name": self.name, "optimizer": self._inner_config()}

    def _inner_config(self):
        """Serializes the other optimizer with this one's learning rate."""
        self.inner_optimizer._learning_rate = 0.0  # as it can't serialize a method
        try:
            described = keras.optimizers.serialize(self.inner_optimizer)
        finally:
            self.inner_optimizer._learning_rate = self._rate_of_current
        described["config"]["learning_rate"] = super().get_config()["learning_rate"]
        return described

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> LearningRateMultipliers:
        """Makes one of its configuration."""
        optimizer = keras.optimizers.deserialize(
            dict(config["optimizer"]), custom_objects
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
