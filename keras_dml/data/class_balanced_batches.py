"""Training batches: a few classes, several images of each."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_dml._checks import checked_bool
from keras_dml._checks import checked_integer
from keras_dml.data._pipeline.batches import augmented_batches
from keras_dml.data._pipeline.batches import rows_to_train_on
from keras_dml.data._pipeline.rows import checked_classes
from keras_dml.data.image_dataset import ImageDataset
from keras_dml.data.loadable_dataset import LoadableDataset


def class_balanced_batches(
    dataset: ImageDataset | tuple[npt.ArrayLike, npt.ArrayLike] | LoadableDataset,
    classes: int,
    images_per_class: int,
    *,
    image_size: int | None = None,
    resize: int | None = None,
    flip: bool | None = None,
    augment: keras.layers.Layer | Callable | Sequence[Any] | None = None,
    replacement: bool = False,
    cache: str | None = None,
    seed: int = 0,
    initial_step: int = 0,
) -> tf.data.Dataset:
    """Batches of `classes` × `images_per_class` augmented images, for `model.fit`.

    Each pass over the result is one epoch of `len(dataset) // batch size` batches, at
    least one, drawn by `class_balanced_plan`; see there what an epoch is and what
    happens to classes of few images. Image files are resized to a square, cropped at
    random and flipped at random. Arrays and what `load` gives are taken as they are, of
    any shape and dtype, but for what is asked for.

    Everything random is a function of the seed, the epoch, the step and the position
    in the batch. A pass that is left before its last batch, as Keras does to look at
    the shapes, starts the same epoch again. (With several replicas, whose devices read
    ahead, that look uses up an epoch of three batches or fewer.)

    Args:
        dataset: the training images: an `ImageDataset`; a tuple (x, labels) of arrays
            or memory maps, of one row for each label; or anything with labels and
            `load(rows)`, as `LoadableDataset` describes. The labels are (n,) integers
            from 0 without gaps.
        classes: classes in a batch. The paper's batches of 75 have 3 (CUB, Cars) or
            15 (Stanford Online Products, In-Shop).
        images_per_class: images of each, no more than the data set has in all; the
            paper's 25 and 5.
        image_size: side of the crop, the model's input, in pixels; None: 224 for image
            files, and other data is not cropped.
        resize: side in pixels that images are resized to before the crop; None: the
            paper's proportion, 256 to 224, for image files, and other data is not
            resized.
        flip: flip half of the images left to right; None: of image files alone. Turn it
            off for letters.
        augment: what changes each image after crop and flip: a Keras layer, such as
            `keras.layers.RandAugment()`, a function (images, seed), or a list of
            these, one after another. Each gets an image as a batch of one, (1, ...),
            and gives one, of the same shape for all images; a layer gives float32. A
            function draws from the seed, (2,) int32, another for every image, with
            `tf.random.stateless_uniform` and its like. Layers need Keras 3; `MixUp` and
            `CutMix`, which mix classes, and `AugMix` are refused.
        replacement: draw classes and images as the paper's released code does.
        cache: keep the resized image files, so that an epoch costs only crop and flip:
            "memory" (fastest; while it is filled and handed to TensorFlow it takes
            about three times `images * resize² * 3` bytes, so use "disk" for sets
            that come near that), "disk" (found again by later runs) or None (decode
            each time).
        seed: 0 or more.
        initial_step: batches that were trained on before, to go on where a run
            stopped: `int(model.optimizer.iterations.numpy())`. Each pass still has
            the same number of batches, so after a stop inside an epoch a pass ends
            inside an epoch too.

    Returns:
        A data set of known cardinality of (images, labels): (batch, image_size,
        image_size, 3) uint8 RGB, or (batch, ...) as the data or `augment` gives them,
        and (batch,) int64. The images of a class are next to each other.

    Raises:
        ValueError: if an argument is out of range, the data set is not one of these or
            not whole, it has fewer classes than a batch needs, `augment` can't be
            applied or gives two results for one seed, or, with a cache, an image can't
            be decoded.
        OSError: if the disk has no room for cache="disk", which is said before an
            image is read, or it can't be written.
        tf.errors.InvalidArgumentError: while reading, if an image can't be decoded;
            the message has its path.

    Example:
        >>> batches = class_balanced_batches(train, 3, 2, image_size=28)
        >>> len(batches)
        4
        >>> images, labels = next(iter(batches))
        >>> images.shape, labels.shape
        (TensorShape([6, 28, 28, 3]), TensorShape([6]))

        Arrays, each image turned a little:

        >>> x = np.zeros((24, 32, 32, 3), np.uint8)
        >>> batches = class_balanced_batches(
        ...     (x, train.labels), 3, 2, augment=keras.layers.RandomRotation(0.05)
        ... )
        >>> batches.element_spec[0].shape
        TensorShape([6, 32, 32, 3])
    """
    classes = checked_integer(classes, "classes", 1)
    images_per_class = checked_integer(images_per_class, "images_per_class", 1)
    replacement = checked_bool(replacement, "replacement")
    rows = rows_to_train_on(dataset)
    count = rows.labels.max() + 1
    if classes > count:
        raise ValueError(
            f"a batch of classes={classes} needs as many classes; the data set has "
            f"{count}. Ask for fewer classes or add some."
        )
    if images_per_class > len(rows.labels):
        raise ValueError(
            f"images_per_class={images_per_class} is more than all "
            f"{len(rows.labels)} images of the data set. Ask for fewer."
        )

    def plan_of_epoch(epoch):
        return class_balanced_plan(
            rows.labels, classes, images_per_class, seed, epoch, replacement
        )

    return augmented_batches(
        rows,
        plan_of_epoch,
        classes * images_per_class,
        image_size=image_size,
        resize=resize,
        flip=flip,
        augment=augment,
        cache=cache,
        seed=seed,
        initial_step=initial_step,
    )


def class_balanced_plan(
    labels: npt.ArrayLike,
    classes: int,
    images_per_class: int,
    seed: int,
    epoch: int,
    replacement: bool = False,
) -> np.ndarray:
    """Draws the batches of one epoch: `classes` × `images_per_class` images each.

    An epoch has `images // batch size` batches, at least one, as in the paper's code.

    By default classes are drawn in rounds: every class once before any comes again, and
    no class twice in a batch. The images of a class are drawn likewise: every image
    once before any comes again, and none twice in a batch, unless the class has fewer
    than `images_per_class`, when they repeat as evenly as they can. So small and large
    classes come equally often, and of a class that is too large for one epoch the next
    epoch shows other images.

    With `replacement`, the rule of the paper's code: the classes of each batch are
    drawn without replacement, independently of the batches before, and their images
    with replacement.

    Args:
        labels: (images,) integers; each from 0 to the largest occurs.
        classes: classes in a batch, from 1 to the number of classes.
        images_per_class: images of each, at least 1.
        seed: 0 or more.
        epoch: 0 or more. The plan is a function of the seed and the epoch.
        replacement: draw as the paper's code does.

    Returns:
        (batches, classes * images_per_class) int64 rows of `labels`; the images of a
        class are next to each other.

    Raises:
        ValueError: if an argument is out of range, or the labels are empty, no
            integers, of several dimensions, negative, or one below the largest does not
            occur.

    Example:
        >>> labels = np.repeat([0, 1, 2], 4)
        >>> plan = class_balanced_plan(labels, 2, 3, seed=0, epoch=0)
        >>> labels[plan]
        array([[2, 2, 2, 1, 1, 1],
               [0, 0, 0, 1, 1, 1]])
    """
    labels = checked_classes(labels)
    sizes = np.bincount(labels)
    classes = checked_integer(classes, "classes", 1, len(sizes))
    images_per_class = checked_integer(images_per_class, "images_per_class", 1)
    checked_integer(seed, "seed", 0)
    checked_integer(epoch, "epoch", 0)
    replacement = checked_bool(replacement, "replacement")
    rng = np.random.default_rng((seed, epoch, 0))
    by_class = np.argsort(labels, kind="stable")
    starts = np.cumsum(sizes) - sizes
    batch = classes * images_per_class
    batches = max(1, len(labels) // batch)
    if replacement:
        drawn = np.stack(
            [rng.choice(len(sizes), classes, replace=False) for _ in range(batches)]
        )
        within = rng.integers(
            0, sizes[drawn][..., None], (*drawn.shape, images_per_class)
        )
        return by_class[starts[drawn][..., None] + within].reshape(batches, batch)

    class_of_share = _draw_in_rounds(
        np.array([len(sizes)]), np.array([batches * classes]), classes, rng
    )
    counts = np.bincount(class_of_share, minlength=len(sizes)) * images_per_class
    within = _draw_in_rounds(sizes, counts, images_per_class, rng)
    images = by_class[np.repeat(starts, counts) + within]
    # The shares of the batches lie class by class; bring them into the order in which
    # their classes were drawn.
    order = np.empty(len(class_of_share), np.int64)
    order[np.argsort(class_of_share, kind="stable")] = np.arange(len(class_of_share))
    return images.reshape(-1, images_per_class)[order].reshape(batches, batch)


def _draw_in_rounds(sizes, counts, window, rng):
    """Draws `counts[g]` items of 0..sizes[g] - 1 from each group g, in rounds.

    A round draws every item of a group once, in random order. In an aligned window of
    `window` items, no item comes two times more than another: none comes twice, unless
    the group is smaller than that.

    Returns the groups' items one group after another: (sum(counts),) int64.
    """
    drawn = np.empty(counts.sum(), np.int64)
    offsets = np.cumsum(counts) - counts
    # The items of groups that need more rounds, each with its position in the last one.
    group = np.repeat(np.arange(len(sizes)), sizes)
    item = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = np.zeros(len(group), np.int64)
    goes_last = np.zeros(len(group), bool)
    rounds = 0
    while True:
        unfinished = rounds * sizes < counts
        kept = unfinished[group]
        group, item = group[kept], item[kept]
        place, goes_last = place[kept], goes_last[kept]
        if not len(group):
            return drawn
        size = sizes[group]
        # A window may span two rounds: what it took of the first goes to the end of
        # the second.
        taken = (rounds * size) % window
        goes_last = np.where(taken <= size, place >= size - taken, goes_last)
        order = np.argsort(group + 0.5 * (goes_last + rng.random(len(group))))
        firsts = np.cumsum(sizes * unfinished) - sizes * unfinished
        place[order] = np.arange(len(group)) - firsts[group]
        position = rounds * size + place
        used = position < counts[group]
        drawn[offsets[group[used]] + position[used]] = item[used]
        rounds += 1
