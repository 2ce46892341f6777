"""Training on several workers, each a process of its own, mostly on its own machine."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy
from tensorflow.python.eager import context

from keras_dml._worker_parts import WorkerPart
from keras_dml._worker_parts import made_of
from keras_dml._worker_parts import make_worker_part
from keras_dml.training import _workers

_TESTED_KERAS = ("3.12", "3.13", "3.14", "3.15")
"""The versions of Keras whose `fit` was seen to train rightly on several workers."""

_MINUTES_TO_START = 10
"""How long a worker waits for the others; by itself TensorFlow would wait an hour."""

_EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


class _MultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """`MultiWorkerMirroredStrategy` with which Keras 3's `fit` works.

    Nothing of Keras is replaced. Two methods of the strategy are overridden:

    - `reduce`. `fit` reduces each step's logs along an axis that scalars do not have,
      and to know the shape of a batch takes the mean of a tuple, which fails
      (https://github.com/keras-team/keras/issues/20585).
    - `experimental_distribute_dataset`, for batches that can make a worker's part.
      Without it, each worker makes the whole of every batch and trains on its part.
    """

    def reduce(self, reduce_op: Any, value: Any, axis: int | None = None) -> Any:
        """Reduces as the base class does, scalars over replicas alone.

        Of a nested structure, which the base class can't reduce, it gives the first
        local replica's: in `fit`, a batch to build a model by.
        """
        if isinstance(value, tuple | list | dict):
            return tf.nest.map_structure(self._first_local, value)
        if axis == 0 and self._first_local(value).shape.rank == 0:
            axis = None
        return super().reduce(reduce_op, value, axis=axis)

    def _first_local(self, value):
        return self.experimental_local_results(value)[0]

    def experimental_distribute_dataset(
        self, dataset: tf.data.Dataset, options: Any = None
    ) -> Any:
        """Makes this worker's part of batches, or lets the base class cut them.

        Raises:
            ValueError: if the batches of another worker are made of other images.
        """
        workers, replicas = self.extended._num_workers, self.num_replicas_in_sync
        part = WorkerPart(self.extended._id_in_cluster, workers, replicas)
        batches = make_worker_part(dataset, part)
        if batches is None:
            return super().experimental_distribute_dataset(dataset, options)
        _workers.check_same_on_all(made_of(dataset))
        if replicas == workers:
            # What TensorFlow would wrap around them waits for a tuner at the end of an
            # epoch, as long as the epoch took.
            return batches
        return self.distribute_datasets_from_function(lambda _: batches, options)


def multi_worker_strategy() -> tf.distribute.Strategy:
    """A `MultiWorkerMirroredStrategy` that works with `fit`, of the job in `TF_CONFIG`.

    The same program is started on every worker, with `TF_CONFIG` in its environment,
    which lists the addresses of all and says which one this is. Each worker trains on
    its part of every batch, on all its GPUs or else on its CPU, and the gradients are
    summed. So it is with `MirroredStrategy`: two workers compute what one process with
    two replicas does, up to rounding. Of batches of `class_balanced_batches` and
    `shuffled_batches`, and in `embed`, each worker reads and decodes its part alone.
    What `map` and the like make of them, and any other `tf.data.Dataset`, is made whole
    by every worker, and must be the same on all.

    Call it before anything else of TensorFlow. It waits until all workers are there.

    Returns:
        The strategy, with `num_replicas_in_sync` replicas. Its `fit` and `predict`
        raise `tf.errors.UnavailableError` when another worker is gone; `lost_worker`
        makes one sentence of that.

    Raises:
        ImportError: if this version of Keras was not tested with it.
        ValueError: if `TF_CONFIG` is missing or is not what TensorFlow wants, or Keras
            runs on another backend.
        RuntimeError: if TensorFlow has begun already.
        ConnectionError: if the workers did not all come within ten minutes, or this
            one began anew while others still run.

    Example:
        >>> strategy = multi_worker_strategy()  # doctest: +SKIP
        >>> with strategy.scope():  # doctest: +SKIP
        ...     conv4 = keras_dml.models.trunk("conv4", input_shape=(28, 28, 3))
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "multi_worker_strategy, and with it TF_CONFIG, is for Keras's tensorflow "
            f"backend; Keras runs on {keras.backend.backend()}. Unset TF_CONFIG; "
            "docs/several_machines.md says how far JAX goes."
        )
    if keras.__version__.rpartition(".")[0] not in _TESTED_KERAS:
        oldest, newest = _TESTED_KERAS[0], _TESTED_KERAS[-1]
        raise ImportError(
            f"multi_worker_strategy was tested with Keras {oldest} to {newest} and "
            f"overrides what their fit calls; found {keras.__version__}. Use pip "
            f'install "keras=={newest}.*".'
        )
    workers = _checked_config()
    try:
        _configure_waiting(workers)
        strategy = _MultiWorkerStrategy()
    except tf.errors.OpError as error:
        reason = error.message.partition("\n")[0]
        raise ConnectionError(
            f"the {sum(workers.values())} workers of TF_CONFIG did not come together "
            f"within {_MINUTES_TO_START} minutes, or one began anew alone ({reason}). "
            "Start the same program on each, and see to it that they reach each other "
            "at these addresses."
        ) from error
    _workers.join(strategy)
    return strategy


def _checked_config():
    """Gives how many workers of each kind `TF_CONFIG` lists."""
    text = os.environ.get("TF_CONFIG", "")
    problem = "is not set"
    if text:
        try:
            config = json.loads(text)
            cluster = {job: list(tasks) for job, tasks in config["cluster"].items()}
            kind, index = config["task"]["type"], config["task"]["index"]
            texts = [isinstance(tasks, str) for tasks in config["cluster"].values()]
        except (ValueError, TypeError, LookupError, AttributeError):
            problem = f"must have cluster and task; it is {text!r}"
        else:
            workers = {job: len(tasks) for job, tasks in cluster.items()}
            every = [address for tasks in cluster.values() for address in tasks]
            if workers.keys() - {"chief", "worker"}:
                problem = f"must list jobs chief and worker alone; it is {text!r}"
            elif any(texts) or not all(map(_is_address, every)):
                problem = f"must list host:port of each worker; it is {text!r}"
            elif len(set(every)) < len(every) or workers.get("chief", 1) != 1:
                problem = f"must list each worker once, and one chief; it is {text!r}"
            elif type(index) is int and index in range(workers.get(kind, 0)):
                return workers
            else:
                problem = f"must have a task that its cluster lists; it is {text!r}"
    raise ValueError(f"TF_CONFIG {problem}. Set it on each worker, as {_EXAMPLE}.")


def _is_address(address):
    return isinstance(address, str) and bool(re.fullmatch(r".+:\d+", address))


def _configure_waiting(workers):
    """Sets what `MultiWorkerMirroredStrategy` sets, with a wait of bounded length."""
    if context.context()._context_handle is not None:
        raise RuntimeError(
            "multi_worker_strategy came too late: TensorFlow has begun. Call it before "
            "anything makes a tensor or a list of devices."
        )
    leader = "chief" if "chief" in workers else "worker"
    # Where the messages are defined differs between versions of TensorFlow.
    messages = collective_all_reduce_strategy.coordination_config_pb2
    context.context().configure_coordination_service(
        "standalone",
        service_leader=f"/job:{leader}/replica:0/task:0",
        cluster_register_timeout_in_ms=_MINUTES_TO_START * 60_000,
        coordinated_jobs=[
            messages.CoordinatedJob(name=job, num_tasks=count)
            for job, count in workers.items()
        ],
    )
