"""Training batches drawn without regard to classes."""

import numpy as np
import tensorflow as tf

from keras_dml._checks import checked_integer
from keras_dml.data._pipeline.batches import augmented_batches
from keras_dml.data.image_dataset import ImageDataset


def shuffled_batches(
    dataset: ImageDataset,
    batch_size: int,
    *,
    image_size: int = 224,
    resize: int | None = None,
    flip: bool = True,
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
        dataset: the training images.
        batch_size: images in a batch, from 1 to `len(dataset)`.
        image_size: side of the crop, the model's input, in pixels.
        resize: side in pixels that images are resized to before the crop; None: the
            paper's proportion, 256 to 224.
        flip: flip half of the images left to right. Turn it off for letters.
        cache: keep the resized images: "memory", "disk" or None.
        seed: 0 or more.
        initial_step: batches that were trained on before, to go on where a run
            stopped.

    Returns:
        A data set of known cardinality of (images, labels): (batch_size, image_size,
        image_size, 3) uint8 RGB and (batch_size,) int64.

    Raises:
        ValueError: if an argument is out of range, or, with a cache, an image can't be
            decoded.
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
    if batch_size > len(dataset):
        raise ValueError(
            f"a batch of batch_size={batch_size} needs as many images; the data set "
            f"has {len(dataset)}. Ask for fewer."
        )
    steps = len(dataset) // batch_size

    def plan_of_epoch(epoch):
        rows = np.random.default_rng((seed, epoch, 0)).permutation(len(dataset))
        return rows[: steps * batch_size].reshape(steps, batch_size)

    return augmented_batches(
        dataset,
        plan_of_epoch,
        batch_size,
        image_size=image_size,
        resize=resize,
        flip=flip,
        cache=cache,
        seed=seed,
        initial_step=initial_step,
    )
