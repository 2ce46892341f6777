"""Times several callables in turn, so that a noisy machine is noisy to all of them."""

import platform
import statistics
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_dml.evaluation._ranking.processors import usable_processors


def alternating_medians(
    contestants: dict[str, Callable[[], None]], rounds: int
) -> dict[str, float]:
    """Runs every contestant once a round, in turn; gives the median seconds of each.

    One more round, the first, is not counted: it traces and warms up.
    """
    seconds = {name: [] for name in contestants}
    for lap in range(1 + rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if lap:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(laps) for name, laps in seconds.items()}


def pin_threads() -> None:
    """Gives TensorFlow one thread a core, and prints what the figures hold for."""
    cores = usable_processors()
    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    print(
        f"{platform.processor() or platform.machine()}, {cores} cores, "
        f"Python {platform.python_version()}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}"
    )
