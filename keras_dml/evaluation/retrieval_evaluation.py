"""Recall@K after training epochs."""

import keras

from keras_dml._checks import checked_integer
from keras_dml._checks import checked_ks
from keras_dml.evaluation.embed import embed
from keras_dml.evaluation.recall import recall_at_k


class RetrievalEvaluation(keras.callbacks.Callback):
    """Measures exact Recall@K after the first epoch of `fit` and every few after it.

    The figures join the epoch's logs as `<prefix>_recall@1` and so on, shares from 0
    to 1: the progress bar, the `History`, and callbacks listed after this one, such
    as `CSVLogger`, `TensorBoard` and `ModelCheckpoint`, find them there. The first
    epoch is always measured, because those callbacks take their columns and their first
    best from it; the epochs between measurements have NaN.

    Args:
        embedder: the model from images to embeddings that shares its layers with the
            one in training.
        dataset: a `keras_dml.data.ImageDataset` of classes that are not trained on.
        ks: the K's to measure. The default is the paper's for CUB-200 and Cars-196.
        every: measure after epochs `every`, `2 * every` and so on, and the first.
        prefix: "val" for classes set aside from training; "test" for the test set,
            whose figures must not choose anything.
        resize: side that images are resized to before the middle is cut out; default
            as the paper's 256 to 224.
        batch_size: images in a batch.

    Raises:
        ValueError: if `ks` or `every` is out of range.

    Example:
        >>> model.fit(
        ...     batches, epochs=30, callbacks=[RetrievalEvaluation(embedder, held_out)]
        ... )
    """

    def __init__(
        self,
        embedder: keras.Model,
        dataset,
        ks: tuple[int, ...] = (1, 2, 4, 8),
        every: int = 1,
        prefix: str = "val",
        resize: int | None = None,
        batch_size: int = 100,
    ):
        """Checks `ks` and `every`; the class docstring has the arguments."""
        super().__init__()
        self.embedder = embedder
        self.dataset = dataset
        self.ks = checked_ks(ks)
        self.every = checked_integer(every, "every", 1)
        self.prefix = prefix
        self.resize = resize
        self.batch_size = batch_size

    def on_epoch_end(self, epoch, logs=None):
        """Adds Recall@K to the logs."""
        recall = dict.fromkeys(self.ks, float("nan"))
        if epoch == 0 or (epoch + 1) % self.every == 0:
            recall = self._recall()
        if logs is not None:
            logs.update({f"{self.prefix}_recall@{k}": recall[k] for k in self.ks})

    def _recall(self):
        embeddings = embed(
            self.embedder, self.dataset, self.resize, self.batch_size, verbose=0
        )
        labels = self.dataset.labels
        is_query = self.dataset.is_query
        if is_query is None:
            return recall_at_k(embeddings, labels, ks=self.ks)
        return recall_at_k(
            embeddings[is_query],
            labels[is_query],
            embeddings[~is_query],
            labels[~is_query],
            ks=self.ks,
        )
