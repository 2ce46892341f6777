"""The labels of a batch, whichever replicas its pieces are on."""

import keras


def labels_of_all_replicas(labels):
    """Puts together the labels that `tf.distribute` has dealt out to replicas.

    Args:
        labels: (piece,) integers, those of this replica.

    Returns:
        (batch,) integers, the same on every replica; `labels` itself where there is
        one replica, or where the backend does not deal batches out.
    """
    if keras.backend.backend() != "tensorflow":
        return labels
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return labels
    return replica.all_gather(labels, axis=0)
