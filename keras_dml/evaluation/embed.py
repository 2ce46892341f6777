"""From a model and a data set to embeddings, and from those to binary codes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import keras
import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_floats
from keras_dml._checks import image_side
from keras_dml._ops import number_of_shards
from keras_dml._ops import ops

if TYPE_CHECKING:
    from keras_dml.data import ImageDataset


def embed(
    embedder: keras.Model,
    dataset: ImageDataset,
    resize: int | None = None,
    batch_size: int = 100,
    verbose: str | int = "auto",
) -> np.ndarray:
    """Embeds every image of a data set, in order.

    Under a distribution strategy each replica has batch normalization statistics of its
    own. They are set to their mean first, which is also what is saved, so that an
    embedding does not depend on the replica that computes it. Where a
    `keras.distribution` splits batches over devices, the last batch is padded for
    that, and a batch has more images than `batch_size` if that does not divide.

    Args:
        embedder: a model from (batch, side, side, 3) RGB pixels, 0 to 255, to
            (batch, dim) embeddings.
        dataset: a `keras_dml.data.ImageDataset`, or anything else whose
            `images(image_size, resize, batch_size)` gives batches of such pixels.
        resize: side that images are resized to before the center is cropped; default
            as the paper's 256 to 224.
        batch_size: images in a batch.
        verbose: Keras's progress bar: 0 for none.

    Returns:
        (images, dim) float32.

    Raises:
        ValueError: if the model does not take square images of a fixed size.

    Example:
        >>> embed(embedder, test, verbose=0).shape
        (24, 16)
    """
    for variable in embedder.non_trainable_variables:
        variable.assign(ops.convert_to_numpy(variable))
    shards = number_of_shards()
    batch_size = -(-batch_size // shards) * shards
    images = dataset.images(image_side(embedder), resize, batch_size)
    if shards == 1:
        return embedder.predict(images, verbose=verbose)
    images = images.map(functools.partial(_padded, shards=shards))
    return embedder.predict(images, verbose=verbose)[: len(dataset)]


def _padded(images, shards):
    """Repeats the first image of a batch until the shards divide it."""
    import tensorflow as tf

    missing = -tf.shape(images)[0] % shards
    return tf.concat([images, tf.repeat(images[:1], missing, axis=0)], axis=0)


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
