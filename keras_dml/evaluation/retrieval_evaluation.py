"""Recall@K after training epochs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy.typing as npt

from keras_dml._checks import checked_integer
from keras_dml._checks import checked_ks
from keras_dml.evaluation._collapse import class_weights_cosine
from keras_dml.evaluation._collapse import is_collapsed
from keras_dml.evaluation._collapse import mean_cosine
from keras_dml.evaluation._labeled_batches import labeled_batches
from keras_dml.evaluation.embed import embed_batches
from keras_dml.evaluation.embed import query_and_gallery
from keras_dml.evaluation.recall import recall_at_k

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_dml.data import ImageDataset
    from keras_dml.data import LoadableDataset

_REMEDY = (
    "The usual causes are a learning rate that is too high, the hardest pairs or a "
    "large margin in a loss on pairs from the first step on, and batch normalization "
    "in batches of few classes. Try a tenth of the learning rate; then "
    "TripletSemiHard or MultiSimilarity for TripletHard, or a smaller margin; more "
    "classes a batch, or keras_dml.training.freeze_batch_norm."
)


class RetrievalEvaluation(keras.callbacks.Callback):
    """Measures exact Recall@K after the first epoch of a `fit` and every few after it.

    The figures are added to the epoch's logs as `<prefix>_recall@1` and so on, shares
    from 0 to 1: the progress bar, the `History`, and callbacks listed after this one,
    such as `CSVLogger`, `TensorBoard` and `ModelCheckpoint`, find them there. The first
    epoch is always measured, of a resumed `fit` as well, because those callbacks take
    their columns and their first best from it; the epochs between have NaN.

    It warns, once a `fit`, when training may have collapsed: when all embeddings, or
    the class weights of a `NormalizedSoftmax` or other `Proxies` in the model, are
    nearly alike, with a mean cosine above 0.99 that has not fallen since the
    measurement before, as that of a network which has just begun does.

    Args:
        embedder: the model from images to embeddings that shares its layers with the
            one in training.
        dataset: images of classes that are not trained on: an `ImageDataset`, arrays
            (x, labels), or anything else that `embed` takes. If it has `is_query`, the
            queries search the gallery; otherwise each image searches all others.
        ks: the ranks K, distinct and at least 1. The default is the paper's for CUB-200
            and Cars-196.
        every: measure after epochs `every`, `2 * every` and so on, and the first of
            each `fit`.
        prefix: "val" for classes set aside from training; "test" for the test set,
            whose figures must not choose anything.
        resize: side that images are resized to before the center is cropped; None: as
            the paper's 256 to 224 for image files, and not at all for other data.
        batch_size: images in a batch, but for batches given.

    Raises:
        ValueError: if an argument is out of range, embedder is no model, or the data
            set is of another kind, not whole, endless, of one image, or doesn't fit it.

    Example:
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=3, image_size=28
        ... )
        >>> evaluation = RetrievalEvaluation(embedder, test, ks=(1, 2))
        >>> history = model.fit(
        ...     batches, callbacks=[evaluation], shuffle=False, verbose=0
        ... ).history
        >>> [name for name in history if "recall" in name]
        ['val_recall@1', 'val_recall@2']
    """

    def __init__(
        self,
        embedder: keras.Model,
        dataset: ImageDataset
        | tuple[npt.ArrayLike, npt.ArrayLike]
        | LoadableDataset
        | tf.data.Dataset
        | keras.utils.PyDataset,
        ks: Sequence[int] = (1, 2, 4, 8),
        every: int = 1,
        prefix: str = "val",
        resize: int | None = None,
        batch_size: int = 100,
    ):
        super().__init__()
        self.embedder = embedder
        self.dataset = dataset
        self.ks = checked_ks(ks)
        self.every = checked_integer(every, "every", 1)
        if not isinstance(prefix, str) or not prefix:
            raise ValueError(
                f"prefix must be text, such as 'val' or 'test'; got {prefix!r}."
            )
        self.prefix = prefix
        self.resize = resize
        self.batch_size = batch_size
        self._begin()
        # Made once: TensorFlow keeps some 1 MiB of each pipeline that is made.
        self._batches = labeled_batches(embedder, dataset, resize, batch_size)
        rows_and_labels = self._batches[1]()
        if rows_and_labels is not None and len(rows_and_labels[0]) < 2:
            raise ValueError("dataset has one image; Recall@K needs at least 2.")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Notes that the first epoch of this `fit` comes, whatever its number is."""
        self._begin()

    def _begin(self):
        self._measure_next = True
        # So the first measurement is below them.
        self._mean_cosine = self._class_weights_cosine = math.inf
        self._collapse_said = False

    def get_state(self) -> dict[str, Any]:
        """Gives what `keras_dml.training.Resume` saves."""
        return {
            "measure_next": self._measure_next,
            "mean_cosine": self._mean_cosine,
            "class_weights_cosine": self._class_weights_cosine,
            "collapse_said": self._collapse_said,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `get_state` gave."""
        self._measure_next = state["measure_next"]
        self._mean_cosine = state["mean_cosine"]
        self._class_weights_cosine = state["class_weights_cosine"]
        self._collapse_said = state["collapse_said"]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds Recall@K to the logs."""
        recalls = {f"recall@{k}": math.nan for k in self.ks}
        if self._measure_next or (epoch + 1) % self.every == 0:
            self._measure_next = False
            embedded = query_and_gallery(
                self.dataset, *embed_batches(self.embedder, *self._batches, verbose=0)
            )
            recalls = recall_at_k(*embedded, ks=self.ks)
            queries, _, gallery, _ = embedded
            parts = (queries,) if gallery is None else (queries, gallery)
            self._look_for_collapse(epoch, mean_cosine(*parts))
        if logs is not None:
            logs.update({f"{self.prefix}_{name}": r for name, r in recalls.items()})

    def _look_for_collapse(self, epoch, cosine):
        alike = {}
        if is_collapsed(cosine, self._mean_cosine):
            alike[f"the embeddings of the {self.prefix} images"] = cosine
        self._mean_cosine = cosine
        # None in a training loop of one's own that sets no model.
        model = self.embedder if self.model is None else self.model
        layer, cosine = class_weights_cosine(model)
        if is_collapsed(cosine, self._class_weights_cosine):
            alike[f"the class weights of {layer}"] = cosine
        self._class_weights_cosine = cosine
        if not alike or self._collapse_said:
            return
        self._collapse_said = True
        seen = " and ".join(
            f"{what} are nearly all alike, with a mean cosine of {cosine:.4f}"
            for what, cosine in alike.items()
        )
        warnings.warn(
            f"Training may have collapsed: after epoch {epoch + 1} {seen}. {_REMEDY}",
            UserWarning,
            stacklevel=2,
        )
