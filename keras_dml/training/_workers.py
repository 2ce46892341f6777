"""What the workers of a job tell each other, and how one hears that another is gone.

`multi_worker_strategy` leaves its strategy here, as a process is a worker of one job at
most. Without it, all of this holds for the only worker there is. What is sent goes
through TensorFlow's coordination service, which the first worker runs; what is summed
or gathered goes through collective operations, which all workers must join.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

_strategy: tf.distribute.MultiWorkerMirroredStrategy | None = None

_names = itertools.count()


def join(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> None:
    """Makes this process a worker of the strategy's job."""
    global _strategy
    _strategy = strategy


def count_workers() -> int:
    """Gives how many workers there are; 1 without `multi_worker_strategy`."""
    return 1 if _strategy is None else _strategy.extended._num_workers


def worker_index() -> int:
    """Gives this worker's number, from 0."""
    return 0 if _strategy is None else _strategy.extended._id_in_cluster


def is_chief() -> bool:
    """Whether this process is the one that writes files.

    Under `multi_worker_strategy` that is worker 0 (or the "chief" of `TF_CONFIG`);
    without it, every process.

    Example:
        >>> if is_chief():
        ...     embedder.save("embedding.keras")
    """
    return _strategy is None or _strategy.extended._is_chief


def from_chief(value: Any = None) -> Any:
    """Gives every worker the chief's value. All must call it, in the same order.

    Args:
        value: the chief's, for JSON; what others pass is not looked at.

    Returns:
        The chief's value, as it comes back from JSON.
    """
    text = json.dumps(value)
    if count_workers() == 1:
        return json.loads(text)
    name = f"keras_dml/{next(_names)}"
    if not is_chief():
        return json.loads(_wait_for(name))
    context.context().set_config_key_value(name, text)
    return json.loads(text)


def _wait_for(name):
    """Waits for what another worker sets, and meanwhile hears Ctrl-C."""
    while True:
        try:
            return context.context().get_config_key_value(name, 1000)
        except tf.errors.DeadlineExceededError:
            continue
        except RuntimeError as error:
            # What a signal's handler raises gets lost in TensorFlow, but for its text.
            ended = re.search(r"SystemExit: (\d+)", str(error))
            if ended:
                sys.exit(int(ended[1]))
            if "KeyboardInterrupt" in str(error):
                raise KeyboardInterrupt from None
            raise


def wait_for_chief() -> None:
    """Lets the others wait until the chief is done. All call it before they end.

    The first worker serves what the workers tell each other, so it goes on only when
    the others have heard.
    """
    from_chief()
    name = f"keras_dml/{next(_names)}"
    for worker in range(1, count_workers()):
        if is_chief():
            _wait_for(f"{name}/{worker}")
        elif worker == worker_index():
            with contextlib.suppress(tf.errors.OpError):  # The chief may have ended.
                context.context().set_config_key_value(f"{name}/{worker}", "")


def sum_over_workers(numbers: Sequence[int]) -> list[int]:
    """Adds the workers' numbers; all must call it."""
    if _strategy is None:
        return list(numbers)
    total = _strategy.reduce(
        "SUM", tf.constant([int(number) for number in numbers], tf.int32), axis=None
    )
    return [int(number) for number in total]


def gather_from_workers(array: np.ndarray) -> list[np.ndarray]:
    """Gives the arrays of all workers, which all must call with one dtype and shape."""
    if _strategy is None or not array.nbytes:
        return [array] * count_workers()
    content = np.frombuffer(array.tobytes(), np.uint8)
    # Collective operations take no bytes.
    words = np.pad(content, (0, -len(content) % 4)).view(np.int32)
    gathered = _strategy.gather(tf.constant(words[None]), axis=0).numpy()
    return [
        row.view(np.uint8)[: len(content)].view(array.dtype).reshape(array.shape)
        for row in gathered
    ]


def check_same_on_all(text: str) -> None:
    """Checks what batches are made of; all workers must call it.

    Raises:
        ValueError: on all workers, if one of them has another text than the first.
    """
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    found = gather_from_workers(np.frombuffer(digest, np.uint8))
    for worker, one in enumerate(found):
        if (one != found[0]).any():
            raise ValueError(
                f"worker {worker} has other images, labels or settings of batches than "
                "worker 0. Give all workers the same data, by a shared disk or whole "
                "copies, and the same seed."
            )


def lost_worker(error: BaseException) -> str | None:
    """Finds out of an error of TensorFlow's that another worker is gone.

    When a worker ends, is killed, or can't be reached any more, `fit` and `predict`
    raise `tf.errors.UnavailableError` on all others within a minute, with the worker
    among much else.

    Args:
        error: the error.

    Returns:
        One sentence that names the worker where TensorFlow knows it; None if the error
        is about something else.

    Example:
        >>> import tensorflow as tf
        >>> text = "Collective ops is aborted by: ... unhealthy: /job:worker/task:1"
        >>> lost_worker(tf.errors.UnavailableError(None, None, text))
        "worker 1 is gone: it ended, was killed, or can't be reached."
    """
    if not isinstance(error, tf.errors.OpError):
        return None
    is_gone = isinstance(error, tf.errors.UnavailableError)
    if not is_gone and "Collective ops is aborted by" not in error.message:
        return None
    own = "worker 0"
    if _strategy is not None:
        own = f"{_strategy.extended._task_type} {_strategy.extended._task_id}"
    found = re.findall(r"/job:(\w+)(?:/replica:0)?/task:(\d+)", error.message)
    named = [f"{job} {task}" for job, task in found]
    who = next((one for one in named if one != own), "another worker")
    return f"{who} is gone: it ended, was killed, or can't be reached."
