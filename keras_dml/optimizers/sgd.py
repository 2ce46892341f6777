"""Stochastic gradient descent by PyTorch's rule."""

import keras

from keras_dml._ops import Optimizer
from keras_dml._ops import gather_rows
from keras_dml._ops import ops
from keras_dml._ops import weight_path
from keras_dml.optimizers._sparse_gradient import as_rows
from keras_dml.optimizers._sparse_gradient import is_sparse
from keras_dml.optimizers._sparse_gradient import rows_and_values


@keras.saving.register_keras_serializable(package="keras_dml")
class SGD(Optimizer):
    """Gradient descent whose L2 term is added to the gradient, as PyTorch's SGD.

    ```
    g = gradient + l2 * w
    v = momentum * v + g
    w = w - learning_rate * multiplier * v
    ```

    Keras's own `SGD(weight_decay=...)` is another rule: it shrinks the weights apart
    from the momentum, and it folds the learning rate into the momentum, which
    differs as soon as the learning rate changes. The L2 term reaches every trained
    variable: class weights and the scale and offset of batch normalization included.

    A `NormalizedSoftmax` that draws its classes is updated by row, on TensorFlow: a
    step changes the rows that it has drawn and no others. Before the rule is applied to
    a row that k steps have passed over, it makes up for what momentum would have done
    in them, at the present learning rate:

    ```
    w = w - learning_rate * multiplier * (momentum + ... + momentum**k) * v
    v = momentum**k * v
    ```

    So with l2 of 0 a row that is drawn ends where the rule puts it that moves every row
    in every step, given the same gradients; between two turns it lags behind by that
    sum. `set_multiplier` and `reset_momentum` let all rows make up for it first. L2
    counts in the steps that draw the row alone, and changes the length of a normalized
    weight, not its direction. Without skipped steps it is the rule itself. Where the
    gradient is dense, as on other backends, all rows follow the rule in every step.

    The multiplier is 1 for every variable until `set_multiplier` changes it. With 0 a
    variable stays as it is while the layers around it train, batch normalization in
    training mode included, which `trainable = False` would not let happen.

    Args:
        learning_rate: a positive float, a
            `keras.optimizers.schedules.LearningRateSchedule` or a callable. The
            default, 0.01, is the paper's for three of its four data sets.
        momentum: from 0 to below 1. The paper's is 0.9.
        l2: weight decay, 0 or more; PyTorch calls it `weight_decay`. The paper's is
            1e-4.
        **kwargs: what every Keras optimizer takes, except `weight_decay`.

    Raises:
        ValueError: if learning_rate, momentum or l2 is out of range, or `weight_decay`
            is given.

    Example:
        >>> keras_dml.optimizers.SGD(0.01, momentum=0.9, l2=1e-4)

    Reference:
        [torch.optim.SGD](https://pytorch.org/docs/stable/generated/torch.optim.SGD.html)
    """

    def __init__(self, learning_rate=0.01, momentum=0.0, l2=0.0, **kwargs):
        """Checks the arguments; the class docstring has them."""
        if isinstance(learning_rate, (int, float)) and not learning_rate > 0:
            raise ValueError(f"learning_rate must be positive; got {learning_rate}.")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be from 0 to below 1; got {momentum}.")
        if not l2 >= 0:
            raise ValueError(f"l2 must be 0 or more, such as 1e-4; got {l2}.")
        if kwargs.pop("weight_decay", None) is not None:
            raise ValueError(
                "weight_decay is Keras's decoupled decay; use l2 for the term that is "
                "added to the gradient."
            )
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.momentum = float(momentum)
        self.l2 = float(l2)

    def build(self, variables):
        """Creates one velocity for each of the model's trained variables."""
        if self.built:
            return
        super().build(variables)
        self.velocities = [
            self.add_variable_from_reference(variable, name="velocity")
            for variable in variables
        ]
        # For variables that are updated by row: the step from which each row rests. In
        # float32, which is exact to 2²⁴ steps, as GPUs scatter it.
        self.rested_since = [
            self.add_variable(variable.shape[:1], "zeros", "float32", name="rested")
            if getattr(variable, "updates_by_row", False)
            else None
            for variable in variables
        ]
        self.multipliers = self.add_variable(
            (len(variables),), initializer="ones", name="multipliers"
        )

    def set_multiplier(self, variables, multiplier):
        """Multiplies the learning rate of some variables from the next step on.

        The multiplier is a variable itself: a training step that is compiled already
        follows it, and it is saved with the optimizer.

        Args:
            variables: trained variables of the model that this optimizer was built
                for, such as `trunk.trainable_variables`.
            multiplier: 0 or more.

        Raises:
            ValueError: if multiplier is out of range, the optimizer is not built yet,
                or it does not train one of the variables.
        """
        if not multiplier >= 0:
            raise ValueError(f"multiplier must be 0 or more; got {multiplier}.")
        if not self.built:
            raise ValueError(
                "the optimizer has no variables yet; call "
                "`optimizer.build(model.trainable_variables)` first."
            )
        values = ops.convert_to_numpy(self.multipliers).copy()
        for variable in variables:
            try:
                values[self._get_variable_index(variable)] = multiplier
            except KeyError:
                raise ValueError(
                    f"this optimizer does not train {weight_path(variable)}; give "
                    "variables of the model that it was built for."
                ) from None
        self._catch_up()
        self.multipliers.assign(values)

    def reset_momentum(self):
        """Sets every velocity to zero, as in an optimizer that has not stepped yet."""
        self._catch_up()
        for velocity in self.velocities:
            velocity.assign(ops.zeros(velocity.shape, velocity.dtype))

    def update_step(self, gradient, variable, learning_rate):
        """Applies the rule to one variable, or to the rows of it that were touched."""
        index = self._get_variable_index(variable)
        velocity = self.velocities[index]
        rate = ops.cast(learning_rate * self.multipliers[index], velocity.dtype)
        if self.rested_since[index] is not None and is_sparse(gradient):
            self._update_rows(*rows_and_values(gradient), variable, rate)
            return
        gradient = ops.cast(gradient, variable.dtype) + self.l2 * variable
        self.assign(velocity, self.momentum * velocity + gradient)
        self.assign_sub(variable, rate * velocity)
        if self.rested_since[index] is not None:
            now = ops.zeros(variable.shape[:1], "float32") + self._next_step()
            self.assign(self.rested_since[index], now)

    def _update_rows(self, rows, gradient, variable, rate):
        index = self._get_variable_index(variable)
        velocity, rested_since = self.velocities[index], self.rested_since[index]
        left, coasting = self._of_rest(gather_rows(rested_since, rows), velocity.dtype)
        before = gather_rows(velocity, rows)
        coasted = coasting * before
        gradient = gradient + self.l2 * (gather_rows(variable, rows) - rate * coasted)
        moved = self.momentum * left * before + gradient
        self.assign(velocity, as_rows(rows, moved))
        self.assign_sub(variable, as_rows(rows, rate * (coasted + moved)))
        next_step = ops.zeros_like(rows, dtype="float32") + self._next_step()
        self.assign(rested_since, as_rows(rows, next_step))

    def _next_step(self):
        return ops.cast(self.iterations + 1, "float32")

    def _of_rest(self, rested_since, dtype):
        """(rows, 1): the share left of a velocity, and how often it has counted."""
        # Somebody may have set the iterations back.
        step = ops.cast(self.iterations, "float32")
        skipped = ops.maximum(step - rested_since, 0.0)[:, None]
        left = self.momentum**skipped
        coasting = self.momentum * (1 - left) / (1 - self.momentum)
        return ops.cast(left, dtype), ops.cast(coasting, dtype)

    def _catch_up(self):
        """Moves all rows that rest to where momentum would have taken them by now."""
        for index, rested_since in enumerate(self.rested_since):
            step = ops.cast(self.iterations, "float32")
            if rested_since is None or not ops.any(rested_since < step):
                continue
            variable = self._trainable_variables[index]
            velocity = self.velocities[index]
            rate = self.learning_rate * self.multipliers[index]
            left, coasting = self._of_rest(rested_since, velocity.dtype)
            coasting = ops.cast(rate, velocity.dtype) * coasting
            variable.assign(variable - coasting * velocity)
            velocity.assign(left * velocity)
            rested_since.assign(ops.zeros(rested_since.shape, "float32") + step)

    def get_config(self):
        """Adds momentum and l2 to the optimizer's configuration."""
        config = super().get_config()
        config.pop("weight_decay", None)
        return {**config, "momentum": self.momentum, "l2": self.l2}
