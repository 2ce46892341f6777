"""Which images make up each batch of an epoch."""

import numpy as np


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
