"""The learning rate of the paper's recipe."""

from collections.abc import Sequence
from numbers import Integral

import keras


def step_decay(
    learning_rate: float,
    epochs: int,
    decay_at: Sequence[float],
    steps_per_epoch: int,
    frozen_epochs: int = 0,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """A schedule that multiplies the learning rate by 0.1 at some epochs.

    Args:
        learning_rate: the first one, also in the warm-up.
        epochs: epochs of training, those of the warm-up not counted.
        decay_at: shares of `epochs`, increasing, between 0 and 1; each is rounded to a
            whole epoch, at least 1, after which the rate is smaller. The paper's is
            (0.5,): after 15 of 30 epochs.
        steps_per_epoch: batches an epoch, at least 1.
        frozen_epochs: epochs before those, 0 or more.

    Returns:
        A schedule by the optimizer's step, which counts from 0.

    Raises:
        ValueError: if an argument is out of range.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive; got {learning_rate}.")
    for name, value, least in (
        ("epochs", epochs, 1),
        ("steps_per_epoch", steps_per_epoch, 1),
        ("frozen_epochs", frozen_epochs, 0),
    ):
        if not (isinstance(value, Integral) and value >= least):
            raise ValueError(
                f"{name} must be an integer of at least {least}; got {value!r}."
            )
    if (
        not isinstance(decay_at, Sequence)
        or not all(0 < share < 1 for share in decay_at)
        or list(decay_at) != sorted(set(decay_at))
    ):
        raise ValueError(
            "decay_at must be shares of the epochs, above 0, below 1 and increasing, "
            f"such as (0.5,); got {decay_at!r}."
        )
    # Keras's schedule changes at the step after a boundary.
    boundaries = [
        (frozen_epochs + max(1, round(share * epochs))) * steps_per_epoch - 1
        for share in decay_at
    ]
    rates = [learning_rate * 0.1**times for times in range(len(boundaries) + 1)]
    if not boundaries:
        boundaries, rates = [0], rates * 2
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
