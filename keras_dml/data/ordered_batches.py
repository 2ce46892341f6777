"""Batches to test on: every row once, in order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_dml._checks import checked_integer
from keras_dml.data._pipeline.images import center_crop
from keras_dml.data._pipeline.images import resize_image
from keras_dml.data._pipeline.rows import checked_crop
from keras_dml.data._pipeline.rows import checked_rows
from keras_dml.data.image_dataset import ImageDataset
from keras_dml.data.loadable_dataset import LoadableDataset


def ordered_batches(
    dataset: ImageDataset | tuple[npt.ArrayLike, npt.ArrayLike] | LoadableDataset,
    *,
    image_size: int | None = None,
    resize: int | None = None,
    batch_size: int = 100,
) -> tf.data.Dataset:
    """Batches of a whole data set in order, for `model.predict` and `evaluate`.

    Args:
        dataset: image files, arrays (x, labels), or what `LoadableDataset` describes.
        image_size: side of the center crop, the model's input, in pixels; None: 224 for
            image files, and other data is not cropped.
        resize: side in pixels that images are resized to before the crop; None: the
            paper's proportion, 256 to 224, for image files, and other data is not
            resized.
        batch_size: rows in a batch, at least 1; the last may have fewer.

    Returns:
        A data set of known cardinality of (x, labels): (batch, image_size, image_size,
        3) uint8 RGB for image files, (batch, ...) of their own dtype for other data;
        and (batch,) labels.

    Raises:
        ValueError: if the data set is not one of these, or not whole, or an argument is
            out of range.
        tf.errors.InvalidArgumentError: while reading, if an image can't be decoded; the
            message has its path.

    Example:
        >>> features = np.zeros((5, 8), np.float32)
        >>> batches = ordered_batches((features, [0, 0, 1, 1, 2]), batch_size=4)
        >>> [labels.numpy().tolist() for x, labels in batches]
        [[0, 0, 1, 1], [2]]
    """
    batch_size = checked_integer(batch_size, "batch_size", 1)
    if isinstance(dataset, ImageDataset):
        image_size = 224 if image_size is None else image_size
        x = dataset.images(image_size, resize, batch_size)
    else:
        dataset = checked_rows(dataset)
        image_size, resize = checked_crop(dataset.shape, image_size, resize, False)

        def preprocess(rows, indices):
            if resize is not None:
                rows = resize_image(rows, resize)
            return rows if image_size is None else center_crop(rows, image_size)

        indices = tf.data.Dataset.from_tensor_slices((np.arange(len(dataset)),))
        x = (
            dataset.read(indices.batch(batch_size))
            .map(preprocess, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )
    labels = tf.data.Dataset.from_tensor_slices(dataset.labels).batch(batch_size)
    return tf.data.Dataset.zip((x, labels))
