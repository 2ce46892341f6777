"""Learning-rate multipliers, one a trained variable, as a part of an optimizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml._ops import weight_path


class Multipliers:
    """What an optimizer whose variables have multipliers can do; it stands first.

    The multipliers are one variable of the optimizer, `multipliers`, so that a training
    step that is compiled already follows them on every backend, and so that they are
    saved. While a variable is frozen, its multiplier has a minus sign and counts as 0:
    what it was before comes back with `unfreeze`.
    """

    built: bool
    multipliers: Any
    add_variable: Any
    reset_momentum: Any
    _get_variable_index: Any
    _saved_frozen = False

    def _add_multipliers(self, variables):
        self.multipliers = self.add_variable(
            (len(variables),), initializer="ones", name="multipliers"
        )

    def set_multiplier(self, variables: Iterable[Any], multiplier: float) -> None:
        """Multiplies the learning rate of some variables from the next step on.

        The multiplier is a variable itself: a training step that is compiled already
        follows it, and it is saved with the optimizer.

        Args:
            variables: trained variables of the model that this optimizer was built
                for, such as `trunk.trainable_variables`.
            multiplier: 0 or more.

        Raises:
            ValueError: if multiplier is out of range, variables are not a list of
                variables, the optimizer is not built yet, or it does not train one of
                them.
        """
        multiplier = checked_number(multiplier, "multiplier", least=0)
        places, values = self._places_and_multipliers(variables)
        values[places] = np.copysign(multiplier, values[places])
        self._assign_multipliers(values)

    def freeze(self, variables: Iterable[Any]) -> None:
        """Keeps some variables as they are from the next step on, until `unfreeze`.

        It is as a multiplier of 0: the layers still run in training mode, and the
        momentum of the variables goes on. Where an optimizer is saved meanwhile, its
        variables are not frozen in the one that is loaded.

        Args:
            variables: as `set_multiplier` takes them.

        Raises:
            ValueError: if variables are not a list of variables, the optimizer is not
                built yet, or it does not train one of them.
        """
        places, values = self._places_and_multipliers(variables)
        values[places] = -np.abs(values[places])
        self._assign_multipliers(values)

    def unfreeze(self) -> None:
        """Lets all frozen variables learn again, with their multipliers of before.

        Momentum starts anew for all variables, as `reset_momentum` does it. Where none
        is frozen, or was when the optimizer was saved, nothing happens.
        """
        if not self.built:
            return
        values = ops.convert_to_numpy(self.multipliers)
        if not self._saved_frozen and not np.signbit(values).any():
            return
        self._assign_multipliers(np.abs(values))
        self.reset_momentum()
        self._saved_frozen = False

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved; Keras calls it."""
        super().load_own_variables(store)  # type: ignore[misc]
        if self.built:
            values = ops.convert_to_numpy(self.multipliers)
            self._saved_frozen = bool(np.signbit(values).any())
            self.multipliers.assign(np.abs(values))

    def _places_and_multipliers(self, variables):
        """Gives where the variables' multipliers are, and a copy of all multipliers."""
        if not self.built:
            raise ValueError(
                "the optimizer has no variables yet; call "
                "`optimizer.build(model.trainable_variables)` first."
            )
        places = []
        for variable in _checked_variables(variables):
            try:
                places.append(self._get_variable_index(variable))
            except KeyError:
                raise ValueError(
                    f"this optimizer does not train {weight_path(variable)}; give "
                    "variables of the model that it was built for."
                ) from None
        return places, ops.convert_to_numpy(self.multipliers).copy()

    def _assign_multipliers(self, values):
        self.multipliers.assign(values)

    def _multiplier(self, variable: Any) -> Tensor:
        """Gives a variable's multiplier, 0 where it is frozen."""
        return self._multiplier_at(self._get_variable_index(variable))

    def _multiplier_at(self, index: int) -> Tensor:
        return ops.maximum(self.multipliers[index], 0.0)


def _checked_variables(variables):
    """Gives a list of variables; raises where they are something else."""
    is_one = hasattr(variables, "assign") or isinstance(variables, str)
    if isinstance(variables, Iterable) and not is_one:
        variables = list(variables)
        if all(hasattr(variable, "assign") for variable in variables):
            return variables
    raise ValueError(
        "variables must be a list of trained variables, such as "
        f"trunk.trainable_variables or [layer.kernel]; got {variables!r}."
    )
