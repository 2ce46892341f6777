"""Training batches drawn without regard to classes."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_dml._checks import checked_integer
from keras_dml.data._pipeline.batches import augmented_batches
from keras_dml.data._pipeline.batches import rows_to_train_on
from keras_dml.data.image_dataset import ImageDataset
from keras_dml.data.loadable_dataset import LoadableDataset


def shuffled_batches(
    dataset: ImageDataset | tuple[npt.ArrayLike, npt.ArrayLike] | LoadableDataset,
    batch_size: int,
    *,
    image_size: int | None = None,
    resize: int | None = None,
    flip: bool | None = None,
    augment: keras.layers.Layer | Callable | Sequence[Any] | None = None,
    cache: str | None = None,
    seed: int = 0,
    initial_step: int = 0,
) -> tf.data.Dataset:
    """Batches of augmented images in random order, for `model.fit`.

    The sampling of most classifiers, to compare `class_balanced_batches` with: each
    pass over the result is one epoch, which shuffles all images anew and leaves out the
    last `len(dataset) % batch_size`. Augmentation, caching and going on at a step are
    the same as there.

    Args:
        dataset: the training images: an `ImageDataset`, arrays (x, labels), or what
            `LoadableDataset` describes.
        batch_size: images in a batch, from 1 to `len(dataset)`.
        image_size: side of the crop, the model's input, in pixels; None: 224 for image
            files, and other data is not cropped.
        resize: side in pixels that images are resized to before the crop; None: the
            paper's proportion, 256 to 224, for image files, and other data is not
            resized.
        flip: flip half of the images left to right; None: of image files alone. Turn it
            off for letters.
        augment: Keras layers and functions that change each image.
        cache: keep the resized image files: "memory", "disk" or None.
        seed: 0 or more.
        initial_step: batches that were trained on before, to go on where a run
            stopped.

    Returns:
        A data set of known cardinality of (images, labels): (batch_size, image_size,
        image_size, 3) uint8 RGB, or (batch_size, ...) as the data or `augment` gives
        them, and (batch_size,) int64.

    Raises:
        ValueError: if an argument is out of range, the data set is not one of these or
            not whole, `augment` can't be applied, or, with a cache, an image can't be
            decoded.
        OSError: if the disk has no room for cache="disk", which is said before an
            image is read, or it can't be written.
        tf.errors.InvalidArgumentError: while reading, if an image can't be decoded;
            the message has its path.

    Example:
        >>> batches = shuffled_batches(train, 8, image_size=28)
        >>> len(batches)
        3
        >>> images, labels = next(iter(batches))
        >>> images.shape, labels.shape
        (TensorShape([8, 28, 28, 3]), TensorShape([8]))
    """
    batch_size = checked_integer(batch_size, "batch_size", 1)
    rows = rows_to_train_on(dataset)
    if batch_size > len(rows):
        raise ValueError(
            f"a batch of batch_size={batch_size} needs as many images; the data set "
            f"has {len(rows)}. Ask for fewer."
        )
    steps = len(rows) // batch_size

    def plan_of_epoch(epoch):
        order = np.random.default_rng((seed, epoch, 0)).permutation(len(rows))
        return order[: steps * batch_size].reshape(steps, batch_size)

    return augmented_batches(
        rows,
        plan_of_epoch,
        batch_size,
        image_size=image_size,
        resize=resize,
        flip=flip,
        augment=augment,
        cache=cache,
        seed=seed,
        initial_step=initial_step,
    )
