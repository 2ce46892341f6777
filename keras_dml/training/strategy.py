"""Training on several devices, with one replica on each."""

import tensorflow as tf

from keras_dml._checks import checked_integer


def mirrored_strategy(logical_cpus: int = 0) -> tf.distribute.Strategy:
    """A `MirroredStrategy` over all GPUs, or the default strategy on a single device.

    On a single device the default strategy does the same, without a wait: what
    `MirroredStrategy` wraps around a data set tunes itself, and at the end of an epoch
    waits for the tuner, in the worst case as long as the epoch has taken.

    Args:
        logical_cpus: split the CPU into this many devices and use those instead, to
            try several replicas without a GPU; 0 does not split. The split must come
            before anything else initializes TensorFlow's devices.

    Returns:
        The strategy, with `num_replicas_in_sync` replicas.

    Raises:
        ValueError: if logical_cpus is not an integer of at least 0.
        RuntimeError: if TensorFlow's devices are initialized already, with another
            split.

    Example:
        >>> strategy = mirrored_strategy()
        >>> with strategy.scope():
        ...     conv4 = keras_dml.models.trunk("conv4", input_shape=(28, 28, 3))
    """
    logical_cpus = checked_integer(logical_cpus, "logical_cpus", 0)
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
                f"logical_cpus={logical_cpus} came too late: TensorFlow's devices are "
                "initialized with another split of the CPU. Call mirrored_strategy "
                "first, in a new process."
            ) from None
    return tf.distribute.MirroredStrategy(
        [f"CPU:{index}" for index in range(logical_cpus)]
    )


def check_batch_divides(classes: int, images_per_class: int, replicas: int) -> None:
    """Raises an error for a batch that can't be divided evenly among the replicas.

    Keras cuts a batch into one piece for each replica, and pieces of different size
    fail in the middle of `fit` with an error about shapes.

    Args:
        classes: classes in a batch, at least 1.
        images_per_class: images of each, at least 1.
        replicas: the strategy's `num_replicas_in_sync`, at least 1.

    Raises:
        ValueError: if an argument is out of range, or `classes * images_per_class` is
            not a multiple of `replicas`; the message suggests the nearest numbers of
            classes for which it is.

    Example:
        >>> check_batch_divides(classes=4, images_per_class=25, replicas=2)
    """
    classes = checked_integer(classes, "classes", 1)
    images_per_class = checked_integer(images_per_class, "images_per_class", 1)
    replicas = checked_integer(replicas, "replicas", 1)
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
        f"images can't be divided among {replicas} replicas. With these images per "
        f"class use {choices}."
    )
