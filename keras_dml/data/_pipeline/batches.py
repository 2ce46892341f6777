"""Training batches from a plan of which images each holds, and the pixel cache."""

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dml._checks import checked_bool
from keras_dml._checks import checked_choice
from keras_dml._checks import checked_integer
from keras_dml._files import atomic_file
from keras_dml._files import check_free_space
from keras_dml._files import default_cache_dir
from keras_dml._worker_parts import WorkerPart
from keras_dml._worker_parts import rows_as_text
from keras_dml._worker_parts import with_worker_parts
from keras_dml.data._pipeline.augmentation import Augmentation
from keras_dml.data._pipeline.augmentation import draw_seeds
from keras_dml.data._pipeline.images import random_crop
from keras_dml.data._pipeline.images import random_flip
from keras_dml.data._pipeline.images import read_all_images
from keras_dml.data._pipeline.images import read_images
from keras_dml.data._pipeline.images import resize_image
from keras_dml.data._pipeline.images import resized_side
from keras_dml.data._pipeline.position import BatchPosition
from keras_dml.data._pipeline.rows import Rows
from keras_dml.data._pipeline.rows import checked_classes
from keras_dml.data._pipeline.rows import checked_crop
from keras_dml.data._pipeline.rows import checked_rows
from keras_dml.data.image_dataset import ImageDataset

_CACHES = (None, "memory", "disk")


def rows_to_train_on(dataset: Any) -> ImageDataset | Rows:
    """Returns a training set that has `labels` and a length, once known to be whole.

    Raises:
        ValueError: if it is none of the kinds that `class_balanced_batches` takes, or
            its labels don't number the classes from 0 without gaps.
    """
    if isinstance(dataset, ImageDataset):
        return dataset
    rows = checked_rows(dataset)
    return dataclasses.replace(rows, labels=checked_classes(rows.labels))


def augmented_batches(
    dataset: ImageDataset | Rows,
    plan_of_epoch: Callable[[int], np.ndarray],
    batch_size: int,
    *,
    image_size: int | None,
    resize: int | None,
    flip: bool | None,
    augment: keras.layers.Layer | Callable | Sequence[Any] | None,
    cache: str | None,
    seed: int,
    initial_step: int,
) -> tf.data.Dataset:
    """Batches of images, cropped, flipped and augmented at random, for `model.fit`.

    What `class_balanced_batches` and `shuffled_batches` share. Each pass over the
    result is one epoch. Everything random is a function of the seed, the epoch, the
    step and the position in the batch, so a run can go on at any step. After a pass
    that is left before its last batch, the next starts the same epoch again.

    Args:
        dataset: the training images, or rows of another kind.
        plan_of_epoch: called with the number of an epoch, from 0; gives the
            (steps, batch_size) int64 rows of the data set that make up its batches,
            where steps is `len(dataset) // batch_size`, at least 1.
        batch_size: images in a batch.
        image_size: side of the crop in pixels; None: 224 for files, none for rows.
        resize: side in pixels that images are resized to before the crop; None: the
            paper's proportion, 256 to 224, for files, not at all for rows.
        flip: flip half of the images left to right; None: of files alone.
        augment: layers and functions for `Augmentation`, or None.
        cache: where resized files are kept: "memory", "disk" or None.
        seed: 0 or more.
        initial_step: batches that were trained on before, 0 or more.

    Returns:
        A data set of known cardinality of (x, labels): (batch_size, ...), and
        (batch_size,) int64.

    Raises:
        ValueError: if an argument is out of range.
    """
    seed = checked_integer(seed, "seed", 0)
    initial_step = checked_integer(initial_step, "initial_step", 0)
    is_files = isinstance(dataset, ImageDataset)
    checked_choice(cache, "cache", _CACHES)
    if cache is not None and not is_files:
        raise ValueError(f"cache={cache!r} is for image files; leave it out here.")
    flip = is_files if flip is None else checked_bool(flip, "flip")
    if isinstance(dataset, Rows):
        image_size, resize = checked_crop(dataset.shape, image_size, resize, flip)
        example = tf.constant(np.asarray(dataset.load(np.zeros(1, np.int64)))[0])
        if resize is not None:
            example = resize_image(example, resize)
    else:
        image_size = 224 if image_size is None else image_size
        side = resized_side(image_size, resize)
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3))
        example = tf.constant(noise, tf.uint8)
    steps = max(1, len(dataset) // batch_size)
    fingerprint = _fingerprint(
        plan_of_epoch(0), dataset.labels, image_size, resize, flip, seed
    )
    position = BatchPosition(initial_step, steps, fingerprint)

    def crop_and_flip(image, draws):
        if image_size is not None:
            image = random_crop(image, image_size, draws[:2])
        return random_flip(image, draws[2]) if flip else image

    example = crop_and_flip(example, tf.constant((0.0, 0.0, 1.0)))
    augmentation = Augmentation([] if augment is None else augment, example)
    # TensorFlow crashes where it splits a batch of tensors without elements.
    seeds_of_image = max(1, augmentation.seeds)

    if isinstance(dataset, ImageDataset) and cache is not None:
        pixels = resized_images(dataset.paths, side, cache)
        image_at = _cached_images(pixels)
    with tf.device("CPU"):
        labels = tf.constant(dataset.labels)

    def of_file(image, index, step, draws, seeds):
        return crop_and_flip(image, draws)

    def of_cropped(image, index, step, draws, seeds):
        return augmentation(image, seeds)

    def of_resized(image, index, step, draws, seeds):
        return augmentation(crop_and_flip(image, draws), seeds)

    def of_row(row, index, step, draws, seeds):
        image = row if resize is None else resize_image(row, resize)
        return of_resized(image, index, step, draws, seeds)

    def of_cached(index, *row):
        image = tf.ensure_shape(image_at(index), pixels.shape[1:])
        return of_resized(image, *row)

    def advance_after_last(steps_of_batch, labels):
        if steps_of_batch[0] == position.next_step + steps - 1:
            position.next_step += steps
        return labels

    def make(part):
        """Makes a worker's part of each batch; all workers draw for the whole."""
        if batch_size % part.replicas:
            raise ValueError(
                f"a batch of {batch_size} images can't be divided among "
                f"{part.replicas} replicas. Give a multiple of {part.replicas}."
            )
        size = batch_size // part.workers

        def planned_batches():
            plan = None
            first_step = position.next_step
            for step in range(first_step, first_step + steps):
                epoch, step_of_epoch = divmod(step, steps)
                if plan is None or step_of_epoch == 0:
                    plan = plan_of_epoch(epoch)
                rng = np.random.default_rng((seed, epoch, step_of_epoch + 1))
                draws = rng.random((batch_size, 3), np.float32)
                rng = np.random.default_rng((seed, epoch, step_of_epoch + 1, 1))
                seeds = draw_seeds(rng, batch_size, seeds_of_image)
                drawn = plan[step_of_epoch], np.full(batch_size, step), draws, seeds
                yield tuple(map(part.of, drawn))

        batches = tf.data.Dataset.from_generator(
            planned_batches,
            output_signature=(
                tf.TensorSpec((size,), tf.int64),
                tf.TensorSpec((size,), tf.int64),
                tf.TensorSpec((size, 3), tf.float32),
                tf.TensorSpec((size, seeds_of_image, 2), tf.int32),
            ),
        )
        if isinstance(dataset, Rows):
            batches = dataset.read(batches)
            if image_size is not None or resize is not None or flip or augment:
                batches = _map_images(of_row, batches, size)
        elif cache is not None:
            batches = batches.map(lambda indices, *rest: (indices, indices, *rest))
            batches = _map_images(of_cached, batches, size)
        else:
            batches = read_images(
                batches, steps * size, size, dataset.paths, side, of_file
            )
            # Apart, as what can't be read is known by the errors of reading.
            if augment:
                batches = _map_images(of_cropped, batches, size)

        def deliver(images, indices, steps, draws, seeds):
            # Runs when the batch is asked for, after all prefetching, so that only
            # batches that were taken count.
            labels_of_batch = tf.numpy_function(
                advance_after_last, (steps, tf.gather(labels, indices)), tf.int64
            )
            images = tf.ensure_shape(images, (size, *augmentation.shape))
            return images, tf.ensure_shape(labels_of_batch, (size,))

        options = tf.data.Options()
        options.deterministic = True
        options.experimental_optimization.inject_prefetch = False
        # The tuner sleeps for up to as long as the epoch took, and its end waits for
        # it.
        options.autotune.enabled = False
        delivered = (
            batches.prefetch(tf.data.AUTOTUNE)
            .map(deliver)
            .apply(tf.data.experimental.assert_cardinality(steps))
            .with_options(options)
        )
        return part.by_replica(delivered, size)

    def made_of():
        paths = dataset.paths if isinstance(dataset, ImageDataset) else ()
        return fingerprint + rows_as_text(dataset.labels, paths)

    return position.attach_to(with_worker_parts(make(WorkerPart()), make, made_of))


def _fingerprint(plan, labels, *settings):
    """A digest of what batches are made of; the plan depends on all that draws it."""
    digest = hashlib.sha256(repr((plan.shape, *settings)).encode())
    digest.update(np.ascontiguousarray(plan))
    digest.update(np.ascontiguousarray(labels))
    return digest.hexdigest()


def _map_images(transform, batches, batch_size):
    """Transforms the images of batches (images, ...) on all cores, in order."""

    def change(image, *rest):
        return transform(image, *rest), *rest

    # Images are transformed in parallel already; see read_images.
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    return (
        batches.unbatch()
        .map(change, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .batch(batch_size)
        .with_options(options)
    )


def _cached_images(pixels):
    """Gives a function from an index to the pixels of that image."""
    if isinstance(pixels, np.memmap):
        return lambda index: tf.numpy_function(lambda i: pixels[i], (index,), tf.uint8)
    # A tensor is gathered from without Python, at twice the speed.
    with tf.device("CPU"):
        tensor = tf.constant(pixels)
    return lambda index: tensor[index]


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
        OSError: if the file can't be written, or the disk has no room for it, which is
            said before the first image is read.
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
        size = math.prod(shape)
        check_free_space(
            folder,
            size,
            f'the {len(paths)} resized images of cache="disk". Make room, set '
            "KERAS_DML_CACHE to a folder that has it, or use another cache",
        )
        with atomic_file(file) as unfinished:
            pixels = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
            _reserve(unfinished)
            _fill(pixels, paths, resize)
            pixels.flush()
    return np.load(file, mmap_mode="r")


def _reserve(file):
    """Has the disk set the room for a file's holes aside, or raises `OSError`.

    Writing to mapped memory for which there is no room would kill the process.
    """
    if hasattr(os, "posix_fallocate"):
        with open(file, "r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, os.path.getsize(file))


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
