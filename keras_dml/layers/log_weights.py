"""How many classes each column of a sampled softmax stands for."""

import keras

_NEVER = -1e9  # A logit whose exponential is 0; with -inf, 0 times it would be NaN.


def log_weights(own, drawn, num_classes):
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
