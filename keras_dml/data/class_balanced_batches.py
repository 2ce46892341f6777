"""Training batches: a few classes, several images of each."""

import numpy as np
import tensorflow as tf

from keras_dml.data import image_ops
from keras_dml.data.class_balanced_plan import class_balanced_plan
from keras_dml.data.image_dataset import ImageDataset
from keras_dml.data.read_images import read_images
from keras_dml.data.resized_images import resized_images


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
    _check(dataset, classes, images_per_class, cache, seed, initial_step)
    resize = image_ops.resize_for(image_size, resize)
    batch = classes * images_per_class
    steps = max(1, len(dataset) // batch)
    first_step = initial_step

    def batches_of_a_pass():
        plan = None
        for step in range(first_step, first_step + steps):
            epoch, step_of_epoch = divmod(step, steps)
            if plan is None or step_of_epoch == 0:
                plan = class_balanced_plan(
                    dataset.labels, classes, images_per_class, seed, epoch, replacement
                )
            rng = np.random.default_rng((seed, epoch, step_of_epoch + 1))
            draws = rng.random((batch, 3), np.float32)
            yield plan[step_of_epoch], np.full(batch, step), draws

    def note_delivery(steps_of_batch, labels):
        nonlocal first_step
        if steps_of_batch[0] == first_step + steps - 1:
            first_step += steps
        return labels

    batches = tf.data.Dataset.from_generator(
        batches_of_a_pass,
        output_signature=(
            tf.TensorSpec((batch,), tf.int64),
            tf.TensorSpec((batch,), tf.int64),
            tf.TensorSpec((batch, 3), tf.float32),
        ),
    )

    def augment(image, index, step, draws):
        return image_ops.random_crop_and_flip(image, image_size, draws, flip)

    if cache is None:
        batches = read_images(
            batches, steps * batch, batch, dataset.paths, resize, augment
        )
    else:
        pixels = resized_images(dataset.paths, resize, cache)
        batches = _take_images(batches, batch, pixels, augment)
    with tf.device("CPU"):
        labels = tf.constant(dataset.labels)

    def deliver(images, indices, steps, draws):
        # Runs when the batch is asked for, after all prefetching.
        labels_of_batch = tf.numpy_function(
            note_delivery, (steps, tf.gather(labels, indices)), tf.int64
        )
        images = tf.ensure_shape(images, (batch, image_size, image_size, 3))
        return images, tf.ensure_shape(labels_of_batch, (batch,))

    options = tf.data.Options()
    options.deterministic = True
    options.experimental_optimization.inject_prefetch = False
    return (
        batches.prefetch(tf.data.AUTOTUNE)
        .map(deliver)
        .apply(tf.data.experimental.assert_cardinality(steps))
        .with_options(options)
    )


def _take_images(batches, batch_size, pixels, finish):
    """Like `read_images`, from pixels held in an array."""
    shape = pixels.shape[1:]
    if isinstance(pixels, np.memmap):

        def image_at(index):
            return tf.numpy_function(lambda i: pixels[i], (index,), tf.uint8)

    else:
        # A tensor is gathered from without Python, at twice the speed.
        with tf.device("CPU"):
            tensor = tf.constant(pixels)

        def image_at(index):
            return tensor[index]

    def take(index, *rest):
        image = tf.ensure_shape(image_at(index), shape)
        return finish(image, index, *rest), index, *rest

    rows = batches.unbatch().map(take, num_parallel_calls=tf.data.AUTOTUNE)
    return rows.batch(batch_size)


def _check(dataset, classes, images_per_class, cache, seed, initial_step):
    for name, value, least in (
        ("classes", classes, 1),
        ("images_per_class", images_per_class, 1),
        ("seed", seed, 0),
        ("initial_step", initial_step, 0),
    ):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(
                f"{name} must be an integer of at least {least}; got {value!r}."
            )
    if classes > len(dataset.class_names):
        raise ValueError(
            f"a batch of classes={classes} needs as many classes; the data set has "
            f"{len(dataset.class_names)}. Ask for fewer classes or add some."
        )
    if cache not in (None, "memory", "disk"):
        raise ValueError(f"cache must be 'memory', 'disk' or None; got {cache!r}.")
