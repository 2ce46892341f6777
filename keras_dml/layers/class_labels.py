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
