"""Labels, refused where they are no class numbers."""

import keras


def class_labels(labels, num_classes):
    """Makes class numbers of labels, as far as the backend can check them.

    Args:
        labels: as for `whole_labels`.
        num_classes: they are to be from 0 to `num_classes` - 1.

    Returns:
        (labels, is_class): (batch,) int32, and (batch,) booleans, true throughout on
        TensorFlow.

    Raises:
        ValueError: if they have another shape.
        tf.errors.InvalidArgumentError: on TensorFlow, if a label is out of range.
    """
    labels = whole_labels(labels)
    is_class = keras.ops.logical_and(labels >= 0, labels < num_classes)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        wrong = tf.boolean_mask(labels, tf.logical_not(is_class))
        message = f"labels must be from 0 to {num_classes - 1}; got"
        checked = tf.debugging.Assert(tf.reduce_all(is_class), [message, wrong])
        with tf.control_dependencies([checked] if checked is not None else []):
            labels = tf.identity(labels)
    return keras.ops.cast(labels, "int32"), is_class


def whole_labels(labels):
    """Makes integers of labels, which Keras leaves alone under mixed precision.

    Args:
        labels: (batch,) or (batch, 1) numbers.

    Returns:
        (batch,) int64, or int32 on JAX; -1 for what is not a whole number.

    Raises:
        ValueError: if they have another shape, as one-hot labels do.
    """
    labels = keras.ops.convert_to_tensor(labels)
    shape = tuple(labels.shape)
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        raise ValueError(
            "labels must be class numbers of shape (batch,) or (batch, 1); got shape "
            f"{shape}. Of one-hot labels give the argmax."
        )
    if "float" in keras.backend.standardize_dtype(labels.dtype):
        is_whole = keras.ops.floor(labels) == labels
        labels = keras.ops.where(is_whole, labels, -1.0)
    # In 32 bits a label of 2³² would be 0. JAX cuts every array to them on its way in.
    wide = "int32" if keras.backend.backend() == "jax" else "int64"
    return keras.ops.reshape(keras.ops.cast(labels, wide), (-1,))


def labels_of_all_replicas(labels):
    """Puts together the labels that `tf.distribute` has dealt out to replicas.

    Args:
        labels: (piece,) integers, those of this replica.

    Returns:
        (batch,) integers, the same on every replica; `labels` itself where there is
        one replica, or where the backend does not deal batches out.
    """
    if keras.backend.backend() != "tensorflow":
        return labels
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return labels
    return replica.all_gather(labels, axis=0)


def drawn_classes(num_classes, count, seed_generator):
    """Draws different classes, every set of them equally likely.

    On TensorFlow the first `count` places of a keyed permutation are computed, without
    the rest: `tf.random_index_shuffle` under a key that is drawn anew for each step, as
    keys in sequence give classes that are not uniform. Other backends shuffle all.

    Args:
        num_classes: how many there are, below 2³¹.
        count: how many to draw, from 1 to `num_classes`.
        seed_generator: a `keras.random.SeedGenerator`, which takes one step.

    Returns:
        (count,) int32 class numbers, none twice.
    """
    if keras.backend.backend() != "tensorflow":
        classes = keras.ops.arange(num_classes, dtype="int32")
        return keras.random.shuffle(classes, seed=seed_generator)[:count]
    import tensorflow as tf

    key = tf.random.stateless_uniform(
        [3], seed_generator.next(), minval=None, maxval=None, dtype="int32"
    )
    return tf.random_index_shuffle(tf.range(count), key, num_classes - 1, rounds=8)


_NEVER = -1e9  # A logit whose exponential is 0; with -inf, 0 times it would be NaN.


def sampling_correction(own, drawn, num_classes):
    """Gives the logarithm of how many classes each column stands for.

    Those of the batch stand for themselves, in the first column that has them. The
    drawn classes that are not in the batch share all the other classes evenly.

    Args:
        own: (batch,) int32 class numbers, repeated as they come.
        drawn: (sampled,) int32 class numbers, none twice.
        num_classes: how many classes there are.

    Returns:
        (batch + sampled,) float32 logarithms: 0 for each first of `own`,
        log(others / drawn others) for the drawn that are not in `own`, and for the
        rest a number so low that its exponential is 0.
    """
    batch = keras.ops.shape(own)[0]
    first = keras.ops.argmax(own[:, None] == own[None, :], axis=1)
    is_first = keras.ops.cast(first, "int32") == keras.ops.arange(batch, dtype="int32")
    in_order = keras.ops.sort(own)
    place = keras.ops.minimum(keras.ops.searchsorted(in_order, drawn), batch - 1)
    is_other = keras.ops.take(in_order, place, axis=0) != drawn
    others = num_classes - keras.ops.sum(keras.ops.cast(is_first, "int32"))
    drawn_others = keras.ops.sum(keras.ops.cast(is_other, "int32"))
    # At least 1 each, where the batch holds all classes or all drawn ones.
    stands_for = keras.ops.cast(keras.ops.maximum(others, 1), "float32") / (
        keras.ops.cast(keras.ops.maximum(drawn_others, 1), "float32")
    )
    return keras.ops.concatenate(
        [
            keras.ops.where(is_first, 0.0, _NEVER),
            keras.ops.where(is_other, keras.ops.log(stands_for), _NEVER),
        ]
    )
