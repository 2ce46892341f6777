"""Checks on the labels that a loss takes."""

from keras_dml._ops import ops


def checked_labels(labels, predictions, kind):
    """Returns the labels as (batch,), once their shape is known to be right.

    Args:
        labels: (batch,) or (batch, 1) integers.
        predictions: (batch, …) what the loss compares them with.
        kind: the loss that asks, for the message.

    Raises:
        ValueError: if the shape is another, or of another batch.
    """
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) != 1 and tuple(labels.shape[1:]) != (1,):
        raise ValueError(
            f"{kind} takes integer labels of shape (batch,), not one-hot ones; got "
            f"{tuple(labels.shape)}."
        )
    found, wanted = labels.shape[0], predictions.shape[0]
    if None not in (found, wanted) and found != wanted:
        raise ValueError(
            f"{kind} takes one label for each embedding; got {found} labels for "
            f"{wanted} embeddings. Give both of the same images."
        )
    return ops.reshape(labels, (-1,))


_FAR = 1e30


def masked_max(x, mask):
    """The greatest along the last axis where `mask` is true; 0 where it nowhere is."""
    greatest = ops.max(ops.where(mask, x, -_FAR), axis=-1)
    return ops.where(ops.any(mask, axis=-1), greatest, 0)


def masked_min(x, mask):
    """The smallest along the last axis where `mask` is true; 0 where it nowhere is."""
    return -masked_max(-x, mask)


def masked_mean(x, mask):
    """The mean of the elements of `x` where `mask` is true; 0 where it nowhere is."""
    total = ops.sum(ops.where(mask, x, 0))
    return total / ops.maximum(ops.sum(ops.cast(mask, x.dtype)), 1)


_NOTHING = -1e30


def masked_log_sum_exp(x, mask, axis=-1):
    """`log(sum(exp(x)))` over the elements where `mask` is true.

    Stays finite where that is nothing: -1e30 then, with a gradient of 0.

    Args:
        x: (rows, columns) floats.
        mask: (rows, columns) booleans.
        axis: the axis to sum over.

    Returns:
        (rows,) or (columns,).
    """
    x = ops.where(mask, x, _NOTHING)
    greatest = ops.stop_gradient(ops.max(x, axis=axis, keepdims=True))
    terms = ops.where(mask, ops.exp(x - greatest), 0)
    total = ops.sum(terms, axis=axis)
    is_some = ops.any(mask, axis=axis)
    logarithm = ops.log(ops.where(is_some, total, 1))
    return logarithm + ops.squeeze(greatest, axis)


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
