"""Batch normalization that keeps the statistics of its pretrained weights."""

import keras


def freeze_batch_norm(trunk: keras.Model) -> int:
    """Lets a trunk's batch normalization rest while everything else trains.

    Its layers normalize by their running statistics, in training as in evaluation, and
    their statistics, scales and offsets stay as they are. A batch of a few classes has
    statistics of its own, which a pretrained trunk never saw: on photographs that is
    what takes a good trunk's recall down in training. With batch normalization at rest
    the learning rate must be smaller than the paper's.

    Call it before `compile`. It sets `trainable` of these layers to False, as Keras
    means it, so a saved model keeps it, and `trunk.trainable = True` undoes it.

    Args:
        trunk: a Keras model; batch normalization is found in the models inside it too.

    Returns:
        How many layers rest, 0 for a trunk without batch normalization.

    Raises:
        ValueError: if trunk is no model.

    Example:
        >>> resting = freeze_batch_norm(keras_dml.models.trunk("conv4", (28, 28, 3)))
        >>> resting
        4
    """
    if not isinstance(trunk, keras.Model):
        raise ValueError(f"trunk must be a keras.Model; got {trunk!r}.")
    layers = [
        layer
        for layer in trunk._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in layers:
        layer.trainable = False
    return len(layers)
