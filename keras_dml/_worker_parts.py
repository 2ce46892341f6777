"""Batches of which each worker of several makes its own part alone.

A batch is cut into one piece for each replica. A data set that went through
`with_worker_parts` can make the pieces of one worker and nothing else, so that no image
is decoded by two workers; `keras_dml.training.multi_worker_strategy` asks for them.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import tensorflow as tf

_ATTRIBUTE = "_keras_dml_make_part"


@dataclasses.dataclass(frozen=True)
class WorkerPart:
    """Which part of each batch is a worker's.

    Worker w has the pieces w, w + workers, w + 2 * workers and so on, one for each of
    its replicas: the order in which TensorFlow deals pieces out and Keras's `predict`
    puts their outputs together. With one replica a worker, that is piece w.

    Attributes:
        worker: from 0 to `workers - 1`.
        workers: how many there are.
        replicas: those of all workers together; a multiple of `workers`.
    """

    worker: int = 0
    workers: int = 1
    replicas: int = 1

    def of(self, batch: np.ndarray) -> np.ndarray:
        """Takes the worker's part of a batch, which the replicas must divide.

        Args:
            batch: (images, …).

        Returns:
            (images / workers, …).
        """
        pieces = batch.reshape(self.replicas, -1, *batch.shape[1:])
        return pieces[self.worker :: self.workers].reshape(-1, *batch.shape[1:])

    def by_replica(self, batches: tf.data.Dataset, size: int) -> tf.data.Dataset:
        """Cuts a worker's batches into one for each of its replicas, in their order.

        Args:
            batches: batches of `size` images.
            size: a multiple of the worker's replicas.
        """
        local = self.replicas // self.workers
        return batches if local == 1 else batches.rebatch(size // local)


def with_worker_parts(
    batches: tf.data.Dataset,
    make: Callable[[WorkerPart], tf.data.Dataset],
    made_of: Callable[[], str],
) -> tf.data.Dataset:
    """Lets `make_worker_part` make parts of batches, which it returns.

    Args:
        batches: the whole batches. What `map` and the like make of them has no parts.
        make: gives a data set of a worker's part of each batch.
        made_of: gives a text that is the same where workers make parts of the same.
    """
    # Made once, as TensorFlow keeps memory of each pipeline.
    setattr(batches, _ATTRIBUTE, (functools.cache(make), made_of))
    return batches


def make_worker_part(
    batches: tf.data.Dataset, part: WorkerPart
) -> tf.data.Dataset | None:
    """Makes a worker's part of batches, the same whenever it is asked for.

    Args:
        batches: any data set.
        part: which part.

    Returns:
        A data set of the part of each batch; None unless `batches` is what
        `with_worker_parts` returned.
    """
    make, _ = getattr(batches, _ATTRIBUTE, (None, None))
    return None if make is None else make(part)


def rows_as_text(labels: npt.ArrayLike, paths: npt.ArrayLike = ()) -> str:
    """Gives what rows are, for `with_worker_parts`: labels, and names of their files.

    The folders are left out, as workers may have copies in different places.
    """
    names = [os.path.basename(path) for path in np.asarray(paths).tolist()]
    return repr((np.asarray(labels).tolist(), names))


def made_of(batches: tf.data.Dataset) -> str:
    """Gives what `with_worker_parts` was told that batches are made of."""
    _, text = getattr(batches, _ATTRIBUTE)
    return text()
