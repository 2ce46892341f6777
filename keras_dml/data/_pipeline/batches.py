"""Training batches from a plan of which images make up each of them."""

import hashlib
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_dml._checks import checked_integer
from keras_dml._files import atomic_file
from keras_dml._files import default_cache_dir
from keras_dml.data._pipeline.images import random_crop_and_flip
from keras_dml.data._pipeline.images import read_all_images
from keras_dml.data._pipeline.images import read_images
from keras_dml.data._pipeline.images import resize_for
from keras_dml.data.image_dataset import ImageDataset


def augmented_batches(
    dataset: ImageDataset,
    plan_of_epoch: Callable[[int], np.ndarray],
    batch: int,
    *,
    image_size: int,
    resize: int | None,
    flip: bool,
    cache: str | None,
    seed: int,
    initial_step: int,
) -> tf.data.Dataset:
    """Batches of images, cropped and mirrored at random, for `model.fit`.

    What `class_balanced_batches` and `shuffled_batches` share; there are the arguments
    and what a pass is.

    Args:
        dataset: the training images.
        plan_of_epoch: gives the (steps, batch) int64 rows of the data set that make up
            an epoch, numbered from 0; `steps` is `len(dataset) // batch`, at least 1.
        batch: images in a batch.
        image_size: side of the crop in pixels.
        resize: side that images are resized to before the crop.
        flip: mirror half of the images left to right.
        cache: "memory", "disk" or None.
        seed: 0 or more.
        initial_step: batches that were trained on before.

    Returns:
        A data set of known cardinality of (images, labels): (batch, image_size,
        image_size, 3) uint8 RGB and (batch,) int64.

    Raises:
        ValueError: if an argument is out of range.
    """
    if cache not in (None, "memory", "disk"):
        raise ValueError(f"cache must be 'memory', 'disk' or None; got {cache!r}.")
    checked_integer(seed, "seed", 0)
    checked_integer(initial_step, "initial_step", 0)
    resize = resize_for(image_size, resize)
    steps = max(1, len(dataset) // batch)
    first_step = initial_step

    def batches_of_a_pass():
        plan = None
        for step in range(first_step, first_step + steps):
            epoch, step_of_epoch = divmod(step, steps)
            if plan is None or step_of_epoch == 0:
                plan = plan_of_epoch(epoch)
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
        return random_crop_and_flip(image, image_size, draws, flip)

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
    # The tuner sleeps for up to as long as the epoch took, and its end waits for it.
    options.autotune.enabled = False
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


def resized_images(paths: np.ndarray, resize: int, cache: str) -> np.ndarray:
    """Decodes and resizes every image, with a progress bar.

    Args:
        paths: (images,) strings.
        resize: side in pixels that images are resized to.
        cache: "memory" gives an array of `images * resize² * 3` bytes; "disk" keeps
            it in a file under `default_cache_dir()` that later runs find again. The
            file's name is a digest of the paths, file sizes, times of change and
            `resize`, so a changed image makes a new file.

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
    if not _is_whole(file, shape):
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as unfinished:
            pixels = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
            _fill(pixels, paths, resize)
            pixels.flush()
    return np.load(file, mmap_mode="r")


def _is_whole(file, shape):
    try:
        return np.load(file, mmap_mode="r").shape == shape
    except (OSError, ValueError):
        # Not there, or cut short by a full disk; either way it is made anew.
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
