"""Classes drawn at random, at a cost that follows how many are drawn."""

import keras


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
