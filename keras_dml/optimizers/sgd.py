"""Stochastic gradient descent by PyTorch's rule."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Optimizer
from keras_dml._ops import Tensor
from keras_dml._ops import gather_rows
from keras_dml._ops import ops
from keras_dml.optimizers._multipliers import Multipliers
from keras_dml.optimizers._sparse_gradient import as_rows
from keras_dml.optimizers._sparse_gradient import is_sparse
from keras_dml.optimizers._sparse_gradient import rows_and_values


@keras.saving.register_keras_serializable(package="keras_dml")
class SGD(Multipliers, Optimizer):
    """Gradient descent whose L2 term is added to the gradient, as PyTorch's SGD.

    ```
    g = gradient + l2 * w
    v = momentum * v + g
    w = w - learning_rate * multiplier * v
    ```

    Keras's own `SGD(weight_decay=...)` follows another rule: it shrinks the weights
    apart from the momentum, and it folds the learning rate into the momentum, which
    differs as soon as the learning rate changes. The L2 term reaches every trained
    variable: class weights and the scale and offset of batch normalization included.

    The class weights of a `NormalizedSoftmax` with `sampled_classes` are updated by row
    on TensorFlow: a step changes the rows that it has drawn and no others. A row that
    was not drawn in the last k steps first gets what momentum would have done to it in
    those steps, at the present learning rate, and then the rule above:

    ```
    w = w - learning_rate * multiplier * (momentum + ... + momentum**k) * v
    v = momentum**k * v
    ```

    So with l2 of 0 a drawn row ends where it would if every step updated every row,
    given the same gradients; until it is drawn again it lacks that sum.
    `set_multiplier`, `freeze` and `reset_momentum` add it to all rows first. L2 counts
    only in the steps that draw the row; it changes the length of a normalized weight,
    not its direction. A row that every step draws follows the rule above exactly. Where
    the gradient is dense, as on other backends, every step updates all rows.

    The multiplier is 1 for every variable until `set_multiplier` changes it. With 0 a
    variable stays as it is while the layers around it train, and batch normalization
    stays in training mode, which it would not with `trainable = False`.

    Args:
        learning_rate: a float above 0, a
            `keras.optimizers.schedules.LearningRateSchedule` or a callable. The
            default, 0.01, is the paper's for three of its four data sets.
        momentum: from 0 to below 1. The paper's is 0.9.
        l2: weight decay, 0 or more; PyTorch calls it `weight_decay`. The paper's is
            1e-4.
        **kwargs: those of every Keras optimizer, except `weight_decay`.

    Raises:
        ValueError: if learning_rate, momentum or l2 is out of range, or `weight_decay`
            is given.

    Example:
        >>> model.compile(
        ...     keras_dml.optimizers.SGD(0.01, momentum=0.9, l2=1e-4),
        ...     keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ... )
        >>> model.optimizer.build(model.trainable_variables)
        >>> model.optimizer.set_multiplier(trunk.trainable_variables, 0.1)

    Reference:
        [torch.optim.SGD](https://pytorch.org/docs/stable/generated/torch.optim.SGD.html)
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if isinstance(learning_rate, Real):
            checked_number(learning_rate, "learning_rate", above=0, example=0.01)
        momentum = checked_number(momentum, "momentum", least=0, below=1, example=0.9)
        l2 = checked_number(l2, "l2", least=0, example=1e-4)
        if kwargs.pop("weight_decay", None) is not None:
            raise ValueError(
                "weight_decay is Keras's decoupled decay; use l2 for the term that is "
                "added to the gradient."
            )
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.momentum = momentum
        self.l2 = l2

    def build(self, variables: Sequence[Any]) -> None:
        """Creates the optimizer's variables.

        Args:
            variables: the model's trainable variables.
        """
        if self.built:
            return
        super().build(variables)
        self.velocities = [
            self.add_variable_from_reference(variable, name="velocity")
            for variable in variables
        ]
        # For each row of a variable that is updated by row, how many steps it includes;
        # None for other variables. In float32, exact to 2²⁴ steps, as GPUs scatter it.
        self.row_steps = [
            self.add_variable(variable.shape[:1], "zeros", "float32", name="row_steps")
            if getattr(variable, "updates_by_row", False)
            else None
            for variable in variables
        ]
        self._add_multipliers(variables)

    def reset_momentum(self) -> None:
        """Sets every velocity to zero, as in an optimizer that has made no step yet."""
        self._apply_skipped_steps()
        for velocity in self.velocities:
            velocity.assign(ops.zeros(velocity.shape, velocity.dtype))

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Any) -> None:
        """Updates a variable by the rule, or those rows of it that have a gradient.

        Args:
            gradient: of the variable's shape, or a `tf.IndexedSlices` of some rows.
            variable: one that the optimizer was built for.
            learning_rate: before the multiplier.
        """
        index = self._get_variable_index(variable)
        velocity, row_steps = self.velocities[index], self.row_steps[index]
        rate = ops.cast(learning_rate * self._multiplier(variable), velocity.dtype)
        if row_steps is not None and is_sparse(gradient):
            self._update_rows(*rows_and_values(gradient), variable, rate)
            return
        gradient = ops.cast(gradient, variable.dtype) + self.l2 * variable
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, rate * velocity)
        if row_steps is not None:
            steps = ops.zeros(variable.shape[:1], "float32") + self._next_step()
            self.assign(row_steps, steps)

    def _update_rows(self, rows, gradient, variable, rate):
        """Updates some rows, each (rows, dim), by their skipped steps and this one."""
        index = self._get_variable_index(variable)
        velocity, row_steps = self.velocities[index], self.row_steps[index]
        decay, total = self._skipped_steps(gather_rows(row_steps, rows), velocity.dtype)
        before = gather_rows(velocity, rows)
        skipped = total * before
        gradient = gradient + self.l2 * (gather_rows(variable, rows) - rate * skipped)
        after = self.momentum * decay * before + gradient
        self.assign(velocity, as_rows(rows, after))
        self.assign_sub(variable, as_rows(rows, rate * (skipped + after)))
        steps = ops.zeros_like(rows, dtype="float32") + self._next_step()
        self.assign(row_steps, as_rows(rows, steps))

    def _next_step(self):
        return ops.cast(self.iterations + 1, "float32")

    def _skipped_steps(self, row_steps, dtype):
        """Gives what momentum does in the k steps that each row has skipped.

        Returns:
            (decay, total), each (rows, 1): momentum**k, the share that is left of the
            velocity, and momentum + ... + momentum**k, how often it moves the row.
        """
        step = ops.cast(self.iterations, "float32")
        # Somebody may have set the iterations back.
        skipped = ops.maximum(step - row_steps, 0.0)[:, None]
        decay = self.momentum**skipped
        total = self.momentum * (1 - decay) / (1 - self.momentum)
        return ops.cast(decay, dtype), ops.cast(total, dtype)

    def _assign_multipliers(self, values):
        self._apply_skipped_steps()
        super()._assign_multipliers(values)

    def _apply_skipped_steps(self):
        """Moves all rows to where momentum would have taken them by now."""
        for index, row_steps in enumerate(self.row_steps):
            step = ops.cast(self.iterations, "float32")
            if row_steps is None or not ops.any(row_steps < step):
                continue
            variable = self._trainable_variables[index]
            velocity = self.velocities[index]
            rate = self.learning_rate * self._multiplier(variable)
            decay, total = self._skipped_steps(row_steps, velocity.dtype)
            total = ops.cast(rate, velocity.dtype) * total
            variable.assign(variable - total * velocity)
            velocity.assign(decay * velocity)
            row_steps.assign(ops.zeros(row_steps.shape, "float32") + step)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, momentum and l2 included."""
        config = super().get_config()
        config.pop("weight_decay", None)
        return {**config, "momentum": self.momentum, "l2": self.l2}
