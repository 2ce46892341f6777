"""The learning-rate schedule of the paper."""

from collections.abc import Sequence
from numbers import Real

import keras

from keras_dml._checks import checked_integer
from keras_dml._checks import checked_number


def step_decay(
    learning_rate: float,
    epochs: int,
    decay_at: Sequence[float],
    steps_per_epoch: int,
    frozen_epochs: int = 0,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """A schedule that multiplies the learning rate by 0.1 after given epochs.

    Args:
        learning_rate: the initial one, above 0.
        epochs: epochs in which the whole model trains, at least 1.
        decay_at: fractions of `epochs`, increasing, above 0 and below 1. Each is
            rounded to a whole epoch, at least 1, after which the learning rate is
            multiplied by 0.1. The paper's is (0.5,): after 15 of 30 epochs.
        steps_per_epoch: batches in an epoch, at least 1.
        frozen_epochs: epochs of `FreezeTrunk` before those, 0 or more, at the initial
            learning rate.

    Returns:
        A schedule from the optimizer's step, counted from 0, to the learning rate.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> schedule = step_decay(
        ...     0.01, epochs=30, decay_at=(0.5,), steps_per_epoch=100, frozen_epochs=1
        ... )
        >>> [round(float(schedule(step)), 6) for step in (0, 1599, 1600)]
        [0.01, 0.01, 0.001]

    Reference:
        [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649)
    """
    learning_rate = checked_number(learning_rate, "learning_rate", above=0)
    epochs = checked_integer(epochs, "epochs", 1)
    steps_per_epoch = checked_integer(steps_per_epoch, "steps_per_epoch", 1)
    frozen_epochs = checked_integer(frozen_epochs, "frozen_epochs", 0)
    if (
        not isinstance(decay_at, Sequence)
        or not all(isinstance(one, Real) and 0 < one < 1 for one in decay_at)
        or list(decay_at) != sorted(set(decay_at))
    ):
        raise ValueError(
            "decay_at must be fractions of the epochs, above 0, below 1 and "
            f"increasing, such as (0.5,); got {decay_at!r}."
        )
    # PiecewiseConstantDecay changes the rate at the step after a boundary.
    boundaries = [
        (frozen_epochs + max(1, round(fraction * epochs))) * steps_per_epoch - 1
        for fraction in decay_at
    ]
    rates = [learning_rate * 0.1**decays for decays in range(len(boundaries) + 1)]
    if not boundaries:  # which it does not take; both sides of one have the same rate
        boundaries, rates = [0], rates * 2
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
