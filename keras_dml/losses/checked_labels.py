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
