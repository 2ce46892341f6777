"""Training batches: a few classes, several images of each."""

import numpy as np
import tensorflow as tf

from keras_dml._checks import checked_integer
from keras_dml.data._pipeline.batches import augmented_batches
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


def class_balanced_plan(
    labels: np.ndarray,
    classes: int,
    images_per_class: int,
    seed: int,
    epoch: int,
    replacement: bool = False,
) -> np.ndarray:
    """Draws the batches of one epoch: `classes` × `images_per_class` images each.

    An epoch has `images // batch` batches, at least one, as in the paper's code.

    By default the classes are dealt out in rounds: every class comes once before any
    comes again, and no class comes twice in a batch. The images of a class are dealt
    out likewise: every image once before any again, and none twice in its share of a
    batch, unless the class has fewer than `images_per_class`, when they repeat as
    evenly as they can. So small and large classes come equally often, and a class
    larger than its share of the epoch shows another part of itself in the next.

    With `replacement`, the rule of the paper's code: the classes of each batch are
    drawn without replacement, whatever came before, and their images with
    replacement.

    Args:
        labels: (images,) integers from 0, none left out.
        classes: classes in a batch, from 1 to the number of classes.
        images_per_class: images of each, at least 1.
        seed: 0 or more.
        epoch: 0 or more. The plan is a function of the seed and the epoch.
        replacement: draw as the paper's code does.

    Returns:
        (batches, classes * images_per_class) int64 rows of `labels`; the images of a
        class stand side by side.
    """
    rng = np.random.default_rng((seed, epoch, 0))
    by_class = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
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

    turns = _deal(np.array([len(sizes)]), np.array([batches * classes]), classes, rng)
    times = np.bincount(turns, minlength=len(sizes))
    shares = _deal(sizes, times * images_per_class, images_per_class, rng)
    images = by_class[np.repeat(starts, times * images_per_class) + shares]
    # The shares lie class by class; bring them into the order of the turns.
    order = np.empty(len(turns), np.int64)
    order[np.argsort(turns, kind="stable")] = np.arange(len(turns))
    return images.reshape(-1, images_per_class)[order].reshape(batches, batch)


def _deal(sizes, counts, window, rng):
    """Deals `counts[g]` items of 0..sizes[g] - 1 from each group g, in rounds.

    A round deals every item of a group once, in random order. In an aligned window of
    `window` items, no item comes two times more than another: none comes twice, unless
    the group is smaller than that.

    Returns the groups' items one group after another: (sum(counts),) int64.
    """
    dealt = np.empty(counts.sum(), np.int64)
    offsets = np.cumsum(counts) - counts
    # Groups still to be served, item by item, and the place of each in the last round.
    group = np.repeat(np.arange(len(sizes)), sizes)
    item = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    place = np.zeros(len(group), np.int64)
    back = np.zeros(len(group), bool)
    done = 0
    while True:
        short = done * sizes < counts
        left = short[group]
        group, item, place, back = group[left], item[left], place[left], back[left]
        if not len(group):
            return dealt
        size = sizes[group]
        # What the window at hand took of the round in which it began goes to the back.
        had = (done * size) % window
        back = np.where(had <= size, place >= size - had, back)
        order = np.argsort(group + 0.5 * (back + rng.random(len(group))))
        firsts = np.cumsum(sizes * short) - sizes * short
        place[order] = np.arange(len(group)) - firsts[group]
        position = done * size + place
        used = position < counts[group]
        dealt[offsets[group[used]] + position[used]] = item[used]
        done += 1
