"""Checks on the labels that a loss takes."""

from keras_dml._ops import ops


def checked_labels(labels, kind):
    """Returns the labels as (batch,), once their shape is known to be right.

    Args:
        labels: (batch,) or (batch, 1) integers.
        kind: the loss that asks, for the message.

    Raises:
        ValueError: if the shape is another.
    """
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) != 1 and tuple(labels.shape[1:]) != (1,):
        raise ValueError(
            f"{kind} takes integer labels of shape (batch,), not one-hot ones; got "
            f"{tuple(labels.shape)}."
        )
    return ops.reshape(labels, (-1,))
