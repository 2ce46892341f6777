"""From a model and a data set to embeddings, and from those to binary codes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_floats
from keras_dml._ops import average_replicas
from keras_dml.evaluation._labeled_batches import labeled_batches

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_dml.data import ImageDataset
    from keras_dml.data import LoadableDataset


def embed(
    embedder: keras.Model,
    dataset: ImageDataset
    | tuple[npt.ArrayLike, npt.ArrayLike]
    | LoadableDataset
    | tf.data.Dataset
    | keras.utils.PyDataset,
    resize: int | None = None,
    batch_size: int = 100,
    verbose: str | int = "auto",
) -> np.ndarray:
    """Embeds every image of a data set, in order.

    Under a distribution strategy each replica has batch normalization statistics of its
    own. They are set to their mean first, which is also what is saved, so that an
    embedding does not depend on the replica that computes it. Where the replicas, or a
    `keras.distribution`, split batches over devices, the last batch is padded for
    that, and a batch has more images than `batch_size` if that does not divide. Batches
    given may be empty, as a filter leaves them. Under `multi_worker_strategy` all
    workers call this; each decodes and embeds its part of every batch, and gets the
    embeddings of all.

    Args:
        embedder: a model from images, (batch, side, side, 3) RGB pixels from 0 to 255,
            or whatever else the data set holds, to (batch, dim) embeddings.
        dataset: an `ImageDataset`; arrays (x, labels); what
            `keras_dml.data.LoadableDataset` describes; or batches of (x, labels), as a
            finite `tf.data.Dataset` or `keras.utils.PyDataset`, in the order that it
            gives them.
        resize: side that images are resized to before the center is cropped to the
            model's input; None: the paper's 256 to 224 for image files, and other data
            is taken as it is. Not for batches.
        batch_size: images in a batch, but for batches given.
        verbose: Keras's progress bar: 0 for none.

    Returns:
        (images, dim), of the dtype of the model's output: float32 unless it was made
        otherwise.

    Raises:
        ValueError: if the data set is none of these, or not whole, or endless, or holds
            no images, or they don't fit the model, or the model takes no square images
            of a fixed size where image files are resized to it, or gives no
            (batch, dim), or batch_size is out of range.

    Example:
        >>> embed(embedder, test, verbose=0).shape
        (24, 16)
        >>> pixels = np.zeros((5, 28, 28, 3), np.uint8)
        >>> embed(embedder, (pixels, [0, 0, 1, 1, 1]), verbose=0).shape
        (5, 16)
    """
    batches = labeled_batches(embedder, dataset, resize, batch_size)
    return embed_batches(embedder, *batches, verbose)[0]


def embed_query_and_gallery(
    embedder: keras.Model,
    dataset: ImageDataset
    | tuple[npt.ArrayLike, npt.ArrayLike]
    | LoadableDataset
    | tf.data.Dataset
    | keras.utils.PyDataset,
    resize: int | None = None,
    batch_size: int = 100,
    verbose: str | int = "auto",
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Embeds a data set as the measures take it, images and labels read in one pass.

    So a data set whose order differs from pass to pass is measured rightly too.

    Args:
        embedder: as in `embed`.
        dataset: as in `embed`.
        resize: as in `embed`.
        batch_size: as in `embed`.
        verbose: Keras's progress bar: 0 for none.

    Returns:
        (queries, query_labels, gallery, gallery_labels), the first four arguments of
        `recall_at_k` and the other measures. The gallery and its labels are None unless
        the data set has `is_query`: each image queries all the others.

    Raises:
        ValueError: where `embed` raises.

    Example:
        >>> figures = recall_at_k(
        ...     *embed_query_and_gallery(embedder, test, verbose=0), ks=(1, 2)
        ... )
        >>> list(figures)
        ['recall@1', 'recall@2']
    """
    batches = labeled_batches(embedder, dataset, resize, batch_size)
    return query_and_gallery(dataset, *embed_batches(embedder, *batches, verbose))


def embed_batches(
    embedder: keras.Model,
    batches: tf.data.Dataset,
    rows_and_labels: Callable[[], Any],
    verbose: str | int = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Embeds what `labeled_batches` gives, which may be embedded again and again.

    Args:
        embedder: as in `embed`.
        batches: as `labeled_batches` gives them.
        rows_and_labels: likewise.
        verbose: Keras's progress bar: 0 for none.

    Returns:
        (embeddings, labels): (images, dim) and (images,).
    """
    average_replicas(embedder)
    with warnings.catch_warnings():
        # Said of every data set whose number of batches is not known beforehand.
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        embeddings = embedder.predict(batches, verbose=verbose)
    rows, labels = rows_and_labels()
    return embeddings[rows], labels


def query_and_gallery(
    dataset: Any, embeddings: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Gives what `embed_query_and_gallery` does of a data set that is embedded."""
    is_query = getattr(dataset, "is_query", None)
    if is_query is None:
        return embeddings, labels, None, None
    is_query = np.asarray(is_query)
    return (
        embeddings[is_query],
        labels[is_query],
        embeddings[~is_query],
        labels[~is_query],
    )


def binary_codes(embeddings: npt.ArrayLike) -> np.ndarray:
    """Keeps one bit a dimension, set where the value is above 0, eight to a byte.

    The rule is that of Zhai & Wu, "Classification is a Strong Baseline for Deep Metric
    Learning", https://arxiv.org/abs/1811.12649: layer normalization centers the
    features, which makes 0 the threshold.

    Args:
        embeddings: (n, dim) float16, float32 or float64.

    Returns:
        uint8 (n, ceil(dim / 8)), in the bit order of `np.packbits`: the first dimension
        is the highest bit of the first byte, and the last byte is filled with zeros.

    Raises:
        ValueError: if embeddings are empty, not finite, or of another shape or type.

    Example:
        >>> binary_codes([[0.3, -0.2, 0.0, 0.1]])
        array([[144]], dtype=uint8)
    """
    return np.packbits(checked_floats(embeddings, "embeddings") > 0, axis=1)
