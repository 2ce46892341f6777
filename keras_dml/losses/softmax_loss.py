"""Softmax cross-entropy with a mask for the own class."""

from keras_dml._ops import ops


def softmax_loss(logits, is_own):
    """`log(Σ_z exp(logit_z)) - logit_y` of each row, y being where `is_own` is true.

    Args:
        logits: (batch, classes) floats.
        is_own: (batch, classes) booleans, one true in each row.

    Returns:
        (batch,) losses.
    """
    own = ops.sum(ops.where(is_own, logits, 0), axis=-1)
    return ops.logsumexp(logits, axis=-1) - own
