"""The sampled softmax: which classes a training step draws, and what they stand for.

`Proxies` and `NormalizedSoftmax` put the pieces together: the labels of the whole
batch, other classes drawn at random, and what is added to the logits of both so that
the softmax over the sample estimates that over all classes. Keras 3 alone.
"""

from typing import Any

import keras

from keras_dml._ops import Tensor
from keras_dml._ops import integer_labels
from keras_dml._ops import searchsorted

_LEFT_OUT = -1e9
"""Added to a logit to leave its column out: its exponential is 0 then.

With -inf the gradient would be 0 times infinity, which is NaN.
"""


def class_labels(labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Makes class numbers of labels and checks them, as far as the backend can.

    Args:
        labels: (batch,) or (batch, 1) numbers.
        num_classes: labels are class numbers from 0 to `num_classes` - 1.

    Returns:
        (labels, is_class): (batch,) int32, and (batch,) booleans, false for what is no
        class number; on TensorFlow true throughout.

    Raises:
        ValueError: if they have another shape.
        tf.errors.InvalidArgumentError: on TensorFlow, if a label is out of range.
    """
    labels = integer_labels(labels)
    is_class = keras.ops.logical_and(labels >= 0, labels < num_classes)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        wrong = tf.boolean_mask(labels, tf.logical_not(is_class))
        message = f"labels must be from 0 to {num_classes - 1}; got"
        checked = tf.debugging.Assert(tf.reduce_all(is_class), [message, wrong])
        with tf.control_dependencies([checked] if checked is not None else []):
            labels = tf.identity(labels)
    return keras.ops.cast(labels, "int32"), is_class


def drawn_classes(num_classes: int, count: int, seed_generator: Any) -> Tensor:
    """Draws distinct classes, every set of them equally likely.

    On TensorFlow the first `count` places of a keyed permutation are computed, without
    the rest: `tf.random_index_shuffle` under a key that is drawn anew for each step,
    because keys in sequence give classes that are not uniform. Other backends shuffle
    all classes.

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


def sampling_correction(own: Tensor, drawn: Tensor, num_classes: int) -> Tensor:
    """Gives what to add to the sampled logits: the log of the classes each stands for.

    A class of the batch stands for itself, in the first column that has it. The drawn
    classes that are not in the batch share all the other classes evenly.

    Args:
        own: (batch,) int32 class numbers, which may repeat.
        drawn: (sampled,) int32 class numbers, none twice.
        num_classes: how many classes there are.

    Returns:
        (batch + sampled,) float32: 0 for the first of each class in `own`, log(others /
        drawn others) for the drawn that are not in `own`, and for the rest -1e9, which
        leaves the column out.
    """
    batch = keras.ops.shape(own)[0]
    first = keras.ops.argmax(own[:, None] == own[None, :], axis=1)
    is_first = keras.ops.cast(first, "int32") == keras.ops.arange(batch, dtype="int32")
    # By a search, as a table of batch by sampled would take much memory.
    in_order = keras.ops.sort(own)
    place = keras.ops.minimum(searchsorted(in_order, drawn), batch - 1)
    is_other = keras.ops.take(in_order, place, axis=0) != drawn
    others = num_classes - keras.ops.sum(keras.ops.cast(is_first, "int32"))
    drawn_others = keras.ops.sum(keras.ops.cast(is_other, "int32"))
    # At least 1 each, where the batch holds all classes or all drawn ones.
    stands_for = keras.ops.cast(keras.ops.maximum(others, 1), "float32") / (
        keras.ops.cast(keras.ops.maximum(drawn_others, 1), "float32")
    )
    return keras.ops.concatenate(
        [
            keras.ops.where(is_first, 0.0, _LEFT_OUT),
            keras.ops.where(is_other, keras.ops.log(stands_for), _LEFT_OUT),
        ]
    )
