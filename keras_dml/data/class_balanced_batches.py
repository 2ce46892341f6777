"""Training batches: a few classes, several images of each."""

import tensorflow as tf

from keras_dml.data.augmented_batches import augmented_batches
from keras_dml.data.checked_integer import checked_integer
from keras_dml.data.class_balanced_plan import class_balanced_plan
from keras_dml.data.image_dataset import ImageDataset


def class_balanced_batches(
    dataset: ImageDataset,
    classes: int,
    images_per_class: int,
    *,
    image_size: int = 224,
    resize: int | None = None,
    flip: bool = True,
    replacement: bool = False,
    cache: str | None = None,
    seed: int = 0,
    initial_step: int = 0,
) -> tf.data.Dataset:
    """Batches of `classes` × `images_per_class` augmented images, for `model.fit`.

    Each pass over the result is one epoch of `len(dataset) // batch` batches, at
    least one, drawn by `class_balanced_plan`; see there what an epoch is and what
    happens to short classes. Images are resized to a square, cropped at random and
    mirrored at random.

    Everything random is a function of the seed, the epoch, the step and the position
    in the batch. A pass left before its last batch, as Keras does to look at the
    shapes, starts the same epoch again. (With several replicas, whose devices read
    ahead, that look uses up an epoch of three batches or fewer.)

    Args:
        dataset: the training images.
        classes: classes in a batch. The paper's batches of 75 have 3 (CUB, Cars) or
            15 (Stanford Online Products, In-Shop).
        images_per_class: images of each; the paper's 25 and 5.
        image_size: side of the crop, the model's input, in pixels.
        resize: side that images are resized to before the crop; default as 256 to
            `image_size`'s 224.
        flip: mirror half of the images left to right. Turn it off for letters.
        replacement: draw classes and images as the paper's released code does.
        cache: keep the resized images, so that an epoch costs only crop and flip:
            "memory" (fastest; while it is filled and handed to TensorFlow it takes
            about three times `images * resize² * 3` bytes, so use "disk" for sets
            that come near that), "disk" (found again by later runs) or None (decode
            each time).
        seed: 0 or more.
        initial_step: batches that were trained on before, to go on where a run
            stopped: `int(model.optimizer.iterations.numpy())`. Each pass still has
            the same number of batches, so a stop inside an epoch moves the passes
            against the epochs.

    Returns:
        A data set of known cardinality of (images, labels): (batch, image_size,
        image_size, 3) uint8 RGB and (batch,) int64. The images of a class stand side
        by side.

    Raises:
        ValueError: if an argument is out of range, the data set has fewer classes
            than a batch needs, or, with a cache, an image can't be decoded.
        tf.errors.InvalidArgumentError: while reading, if an image can't be decoded;
            the message has its path.
    """
    checked_integer(classes, "classes", 1)
    checked_integer(images_per_class, "images_per_class", 1)
    if classes > len(dataset.class_names):
        raise ValueError(
            f"a batch of classes={classes} needs as many classes; the data set has "
            f"{len(dataset.class_names)}. Ask for fewer classes or add some."
        )

    def plan_of_epoch(epoch):
        return class_balanced_plan(
            dataset.labels, classes, images_per_class, seed, epoch, replacement
        )

    return augmented_batches(
        dataset,
        plan_of_epoch,
        classes * images_per_class,
        image_size=image_size,
        resize=resize,
        flip=flip,
        cache=cache,
        seed=seed,
        initial_step=initial_step,
    )
