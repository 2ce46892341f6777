"""Labels, refused where they are no class numbers."""

import keras


def class_labels(labels, num_classes):
    """Makes class numbers of labels, as far as the backend can check them.

    Args:
        labels: (batch,) or (batch, 1) numbers.
        num_classes: they are to be from 0 to `num_classes` - 1.

    Returns:
        (labels, is_class): (batch,) int32, and (batch,) booleans, true throughout on
        TensorFlow.

    Raises:
        tf.errors.InvalidArgumentError: on TensorFlow, if a label is out of range.
    """
    # In 32 bits a label of 2³² would be 0. JAX cuts every array to them on its way in.
    wide = "int32" if keras.backend.backend() == "jax" else "int64"
    labels = keras.ops.reshape(keras.ops.cast(labels, wide), (-1,))
    is_class = keras.ops.logical_and(labels >= 0, labels < num_classes)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        wrong = tf.boolean_mask(labels, tf.logical_not(is_class))
        message = f"labels must be from 0 to {num_classes - 1}; got"
        checked = tf.debugging.Assert(tf.reduce_all(is_class), [message, wrong])
        with tf.control_dependencies([checked] if checked is not None else []):
            labels = tf.identity(labels)
    return keras.ops.cast(labels, "int32"), is_class
