"""Training batches from a plan of which images each holds, and the pixel cache."""

import hashlib
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_dml._checks import checked_bool
from keras_dml._checks import checked_choice
from keras_dml._checks import checked_integer
from keras_dml._files import atomic_file
from keras_dml._files import default_cache_dir
from keras_dml.data._pipeline.images import random_crop_and_flip
from keras_dml.data._pipeline.images import read_all_images
from keras_dml.data._pipeline.images import read_images
from keras_dml.data._pipeline.images import resized_side
from keras_dml.data.image_dataset import ImageDataset

_CACHES = (None, "memory", "disk")


def augmented_batches(
    dataset: ImageDataset,
    plan_of_epoch: Callable[[int], np.ndarray],
    batch_size: int,
    *,
    image_size: int,
    resize: int | None,
    flip: bool,
    cache: str | None,
    seed: int,
    initial_step: int,
) -> tf.data.Dataset:
    """Batches of images, cropped and flipped at random, for `model.fit`.

    What `class_balanced_batches` and `shuffled_batches` share. Each pass over the
    result is one epoch. Everything random is a function of the seed, the epoch, the
    step and the position in the batch, so a run can go on at any step. After a pass
    that is left before its last batch, the next starts the same epoch again.

    Args:
        dataset: the training images.
        plan_of_epoch: called with the number of an epoch, from 0; gives the
            (steps, batch_size) int64 rows of the data set that make up its batches,
            where steps is `len(dataset) // batch_size`, at least 1.
        batch_size: images in a batch.
        image_size: side of the crop in pixels.
        resize: side in pixels that images are resized to before the crop; None: the
            paper's proportion, 256 to 224.
        flip: flip half of the images left to right.
        cache: where resized images are kept: "memory", "disk" or None.
        seed: 0 or more.
        initial_step: batches that were trained on before, 0 or more.

    Returns:
        A data set of known cardinality of (images, labels): (batch_size, image_size,
        image_size, 3) uint8 RGB and (batch_size,) int64.

    Raises:
        ValueError: if an argument is out of range.
    """
    checked_choice(cache, "cache", _CACHES)
    flip = checked_bool(flip, "flip")
    seed = checked_integer(seed, "seed", 0)
    first_step = checked_integer(initial_step, "initial_step", 0)
    resize = resized_side(image_size, resize)
    steps = max(1, len(dataset) // batch_size)

    def planned_batches():
        plan = None
        for step in range(first_step, first_step + steps):
            epoch, step_of_epoch = divmod(step, steps)
            if plan is None or step_of_epoch == 0:
                plan = plan_of_epoch(epoch)
            rng = np.random.default_rng((seed, epoch, step_of_epoch + 1))
            draws = rng.random((batch_size, 3), np.float32)
            yield plan[step_of_epoch], np.full(batch_size, step), draws

    def advance_after_last(steps_of_batch, labels):
        nonlocal first_step
        if steps_of_batch[0] == first_step + steps - 1:
            first_step += steps
        return labels

    batches = tf.data.Dataset.from_generator(
        planned_batches,
        output_signature=(
            tf.TensorSpec((batch_size,), tf.int64),
            tf.TensorSpec((batch_size,), tf.int64),
            tf.TensorSpec((batch_size, 3), tf.float32),
        ),
    )

    def augment(image, index, step, draws):
        return random_crop_and_flip(image, image_size, draws, flip)

    if cache is None:
        batches = read_images(
            batches, steps * batch_size, batch_size, dataset.paths, resize, augment
        )
    else:
        pixels = resized_images(dataset.paths, resize, cache)
        batches = _read_cached_images(batches, batch_size, pixels, augment)
    with tf.device("CPU"):
        labels = tf.constant(dataset.labels)

    def deliver(images, indices, steps, draws):
        # Runs when the batch is asked for, after all prefetching, so that only batches
        # that were taken count.
        labels_of_batch = tf.numpy_function(
            advance_after_last, (steps, tf.gather(labels, indices)), tf.int64
        )
        images = tf.ensure_shape(images, (batch_size, image_size, image_size, 3))
        return images, tf.ensure_shape(labels_of_batch, (batch_size,))

    options = tf.data.Options()
    options.deterministic = True
    options.experimental_optimization.inject_prefetch = False
    # The tuner sleeps for up to as long as the epoch took, and its end waits for it.
    options.autotune.enabled = False
    return (
        batches.prefetch(tf.data.AUTOTUNE)
        .map(deliver)
        .apply(tf.data.experimental.assert_cardinality(steps))
        .with_options(options)
    )


def _read_cached_images(batches, batch_size, pixels, transform):
    """Does what `read_images` does, from pixels held in an array."""
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

    def read(index, *rest):
        image = tf.ensure_shape(image_at(index), shape)
        return transform(image, index, *rest), index, *rest

    rows = batches.unbatch().map(read, num_parallel_calls=tf.data.AUTOTUNE)
    return rows.batch(batch_size)


def resized_images(paths: np.ndarray, resize: int, cache: str) -> np.ndarray:
    """The pixel cache: decodes and resizes every image, with a progress bar.

    Args:
        paths: (images,) strings.
        resize: side in pixels that images are resized to.
        cache: "memory" gives an array of `images * resize² * 3` bytes; "disk" keeps
            it in a file under `default_cache_dir()` that later runs find again. The
            file's name is a digest of TensorFlow's version, `resize`, and each image's
            path, size and time of change, so a changed image makes a new file.

    Returns:
        (images, resize, resize, 3) uint8; on "disk" a memory-mapped, read-only one.

    Raises:
        ValueError: if an image can't be decoded; the message has its path.
    """
    shape = (len(paths), resize, resize, 3)
    if cache == "memory":
        pixels = np.empty(shape, np.uint8)
        _fill(pixels, paths, resize)
        return pixels
    folder = default_cache_dir() / "resized_images"
    file = folder / f"{_digest(paths, resize)}.npy"
    if not _is_complete(file, shape):
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as unfinished:
            pixels = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
            _fill(pixels, paths, resize)
            pixels.flush()
    return np.load(file, mmap_mode="r")


def _is_complete(file, shape):
    try:
        return np.load(file, mmap_mode="r").shape == shape
    except (OSError, ValueError):
        # Missing, or cut short by a full disk; it is written anew either way.
        return False


def _fill(pixels, paths, resize):
    for first, images in read_all_images(paths, resize):
        pixels[first : first + len(images)] = images


def _digest(paths, resize):
    digest = hashlib.sha256(f"{tf.__version__} {resize}".encode())
    for path in paths:
        stat = os.stat(path)
        line = f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        digest.update(line.encode())
    return digest.hexdigest()[:32]
