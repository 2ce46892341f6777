"""The learning rate of the paper's recipe."""

from collections.abc import Sequence

import keras


def step_decay(
    learning_rate: float,
    epochs: int,
    decay_at: Sequence[float],
    steps_per_epoch: int,
    warm_up_epochs: int = 0,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """A schedule that multiplies the learning rate by 0.1 at some epochs.

    Args:
        learning_rate: the first one, also in the warm-up.
        epochs: epochs of training, those of the warm-up not counted.
        decay_at: shares of `epochs`, increasing, between 0 and 1; each is rounded to a
            whole epoch, whose first step is the first with the smaller rate. The
            paper's is (0.5,): after 15 of 30 epochs.
        steps_per_epoch: batches an epoch.
        warm_up_epochs: epochs before those.

    Returns:
        A schedule by the optimiser's step, which counts from 0.
    """
    # Keras's schedule changes at the step after a boundary.
    boundaries = [
        (warm_up_epochs + round(share * epochs)) * steps_per_epoch - 1
        for share in decay_at
    ]
    rates = [learning_rate * 0.1**times for times in range(len(boundaries) + 1)]
    if not boundaries:
        boundaries, rates = [0], rates * 2
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
