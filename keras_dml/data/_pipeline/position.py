"""Which batch of a run the next pass over training batches starts with."""

from __future__ import annotations

import tensorflow as tf

_ATTRIBUTE = "_keras_dml_position"


class BatchPosition:
    """Where the batches of a run are, to be read and set by who resumes it.

    Args:
        next_step: the batch that the next pass starts with, counted over all epochs
            from 0. At the end of a pass it is one epoch further.
        steps_per_epoch: batches in an epoch.
        fingerprint: a digest of all that the batches are made of; batches of another
            are those of another run.
    """

    def __init__(self, next_step: int, steps_per_epoch: int, fingerprint: str):
        self.next_step = next_step
        self.steps_per_epoch = steps_per_epoch
        self.fingerprint = fingerprint

    def attach_to(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Lets `batch_position` find this in `batches`, which it returns."""
        setattr(batches, _ATTRIBUTE, self)
        return batches


def batch_position(batches: tf.data.Dataset) -> BatchPosition:
    """Finds where training batches are in their run.

    `keras_dml.training.Resume` goes by it; few others need it.

    Args:
        batches: what `class_balanced_batches` or `shuffled_batches` returned, or what
            `map`, `prefetch` and other methods that keep the batches made of it.

    Returns:
        An object with `steps_per_epoch`, and with `next_step`, the batch that the next
        pass starts with, counted over all epochs from 0, which can be set. Its
        `fingerprint` tells the batches of one run from those of another.

    Raises:
        ValueError: if they are other batches.

    Example:
        >>> batches = class_balanced_batches(train, 3, 2, image_size=28)
        >>> batch_position(batches).next_step = 7
        >>> images, labels = next(iter(batches))  # batch 3 of epoch 1
    """
    found = [batches] if isinstance(batches, tf.data.Dataset) else []
    while found:
        dataset = found.pop()
        if hasattr(dataset, _ATTRIBUTE):
            return getattr(dataset, _ATTRIBUTE)
        found.extend(dataset._inputs())
    raise ValueError(
        "batches must be what class_balanced_batches or shuffled_batches returned; got "
        f"{batches!r}."
    )
