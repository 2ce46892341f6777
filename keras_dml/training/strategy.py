"""One replica a device."""

import tensorflow as tf


def mirrored_strategy(logical_cpus: int = 0) -> tf.distribute.Strategy:
    """A `MirroredStrategy` over all GPUs, or over the CPU where there are none.

    For a single device it is TensorFlow's default strategy, which does the same. What
    `MirroredStrategy` puts around a data set tunes itself, and at the end of an epoch
    waits until the tuner wakes, for as long as the epoch has taken in the worst case.

    Args:
        logical_cpus: split the CPU into this many devices and use those instead, to
            try several replicas without a GPU; 0 does not split. The split must come
            before anything else makes TensorFlow start its devices.

    Returns:
        The strategy, with `num_replicas_in_sync` replicas.

    Raises:
        ValueError: if logical_cpus is negative.
        RuntimeError: if TensorFlow has started its devices already.
    """
    if logical_cpus < 0:
        raise ValueError(f"logical_cpus must be 0 or more; got {logical_cpus}.")
    if logical_cpus == 0:
        gpus = len(tf.config.list_logical_devices("GPU"))
        if gpus < 2:
            return tf.distribute.get_strategy()
        return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(gpus)])
    wanted = [tf.config.LogicalDeviceConfiguration()] * logical_cpus
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, wanted)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) != logical_cpus:
            raise RuntimeError(
                f"logical_cpus={logical_cpus} came too late: TensorFlow has started "
                "with another split of the CPU. Ask for it first in a new process."
            ) from None
    return tf.distribute.MirroredStrategy(
        [f"CPU:{index}" for index in range(logical_cpus)]
    )


def check_batch_divides(classes: int, images_per_class: int, replicas: int) -> None:
    """Refuses a batch that the replicas can't share evenly.

    Keras cuts a batch into one piece a replica, and pieces of different size fail in
    the middle of `fit` with an error about shapes.

    Raises:
        ValueError: if `classes * images_per_class` is not a multiple of `replicas`;
            the message has the nearest numbers of classes that are.
    """
    batch = classes * images_per_class
    if batch % replicas == 0:
        return
    below = next(
        (n for n in range(classes, 0, -1) if n * images_per_class % replicas == 0), None
    )
    above = next(
        n
        for n in range(classes, classes + replicas + 1)
        if n * images_per_class % replicas == 0
    )
    choices = " or ".join(f"classes={n}" for n in (below, above) if n)
    raise ValueError(
        f"a batch of classes={classes} × images_per_class={images_per_class} = {batch} "
        f"images can't be shared by {replicas} replicas. With these images per class "
        f"use {choices}."
    )
