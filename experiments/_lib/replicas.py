"""The devices that share each batch, on whichever backend Keras runs."""

import contextlib
import dataclasses
import os
from collections.abc import Callable

import keras

from keras_dml import training
from keras_dml._checks import checked_integer


@dataclasses.dataclass(frozen=True)
class Replicas:
    """Devices that train together.

    Args:
        count: how many.
        scope: gives the context in which the model is built and compiled.
    """

    count: int
    scope: Callable[[], contextlib.AbstractContextManager]


def start_replicas(logical_cpus: int = 0) -> Replicas:
    """Makes a replica on every GPU, or on the only device.

    On TensorFlow that is a `MirroredStrategy`, or where `TF_CONFIG` is set the strategy
    of all its workers; on JAX a
    `keras.distribution.DataParallel`, which holds from here on, and makes of each batch
    and of each variable one array over all devices. PyTorch trains on one device.

    Args:
        logical_cpus: split the CPU into this many devices and use those instead; 0 does
            not split.

    Raises:
        ValueError: if logical_cpus is not an integer of at least 0, or the backend
            can't split the CPU, or `TF_CONFIG` is set on another than TensorFlow.
        RuntimeError: if the devices are initialized already, with another split.
    """
    logical_cpus = checked_integer(logical_cpus, "--logical_cpus", 0)
    backend = keras.backend.backend()
    if os.environ.get("TF_CONFIG"):
        if logical_cpus:
            raise ValueError(
                "--logical_cpus must be 0 where TF_CONFIG is set, as each worker "
                f"trains on its GPUs or its CPU; got {logical_cpus}."
            )
        strategy = training.multi_worker_strategy()
        return Replicas(strategy.num_replicas_in_sync, strategy.scope)
    if backend == "tensorflow":
        strategy = training.mirrored_strategy(logical_cpus)
        return Replicas(strategy.num_replicas_in_sync, strategy.scope)
    if backend != "jax":
        if logical_cpus > 1:
            raise ValueError(
                f"--logical_cpus must be 0 on Keras's {backend} backend, which trains "
                f"on one device; got {logical_cpus}."
            )
        return Replicas(1, contextlib.nullcontext)
    if logical_cpus:
        import jax

        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", logical_cpus)
    devices = keras.distribution.list_devices()
    if len(devices) > 1:
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=devices)
        )
    return Replicas(len(devices), contextlib.nullcontext)
