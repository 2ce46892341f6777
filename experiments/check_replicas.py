"""Whether the replicas can share a batch."""

import ml_collections

from experiments.losses import batch_shape
from experiments.losses import find_loss
from keras_dml import training


def check_replicas(config: ml_collections.ConfigDict, replicas: int) -> None:
    """Refuses a batch that the replicas can't share.

    Raises:
        ValueError: if they can't share it evenly, or if the loss is on pairs, which
            are formed on each replica alone, and they would not get whole classes.
    """
    classes, images_per_class = batch_shape(config)
    training.check_batch_divides(classes, images_per_class, replicas)
    if find_loss(config.loss).is_on_pairs and (
        classes % replicas or classes < 2 * replicas
    ):
        raise ValueError(
            f"--config.loss={config.loss} needs whole classes on each of {replicas} "
            f"replicas, 2 at least; a batch has {classes} classes of "
            f"{images_per_class} images. Give --config.classes accordingly."
        )
