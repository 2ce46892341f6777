"""Glyph strings: a data set of up to 1.5 million classes, made of the glyphs."""

import os
import pathlib

import keras
import numpy as np

from keras_dml._checks import checked_integer
from keras_dml._files import cached_folder
from keras_dml._files import default_cache_dir
from keras_dml._ops import import_extra
from keras_dml.data.datasets.glyphs import FACES
from keras_dml.data.datasets.glyphs import IMAGE_SIZE
from keras_dml.data.datasets.glyphs import IMAGES_PER_FACE
from keras_dml.data.datasets.glyphs import glyphs
from keras_dml.data.image_dataset import ImageDataset

GENERATOR_VERSION = 1  # Increase it with any change that makes other pixels.
LETTERS = 3
DRAWINGS = IMAGES_PER_FACE * len(FACES)  # of each letter
STEP = 18  # pixels from one letter to the next
JITTER = 2  # pixels that a letter may be moved, either way
HEIGHT = IMAGE_SIZE - 2 * JITTER  # what the letters cover wherever they are moved
WIDTH = HEIGHT + (LETTERS - 1) * STEP


def glyph_strings(
    classes: int = 50_000,
    images_per_class: int = 2,
    test_classes: int = 1_000,
    test_images_per_class: int = 4,
    cache_dir: str | os.PathLike | None = None,
    seed: int = 0,
) -> tuple[ImageDataset, ImageDataset]:
    """Makes the glyph strings data set, or finds it in the cache.

    Strings of three letters are classes. Those to train on are drawn without repeats
    from the 1,481,544 that the 114 training classes of `glyphs` make, those to test on
    from as many of its 114 test classes, so no letter tested on was trained on. What
    is one class in `glyphs` is one letter here.

    An image is gray, of 64 × 28 pixels, and shows three images of `glyphs` side by
    side, their margins overlapping, each moved by up to two pixels; where two overlap
    the lighter pixel stays. It is meant to be resized to a square of 28 pixels or
    more. Two images of a class never show the same drawing at the same place.

    Everything is a function of the seed, and sets of one seed are nested: with more
    classes or more images of each, those of the smaller set stay as they are, under
    the same labels.

    The images are PNG files, `train/<class>_<number>.png` and
    `test/<class>_<number>.png`, in a folder of the cache whose name has the counts,
    the seed and a digest of everything else that determines the pixels. The folder
    appears when complete, so a process that is interrupted or runs beside another does
    no harm. The 104,000 images of the default take three quarters of a minute on one
    core, and 410 MB of disk.

    Args:
        classes: classes to train on, from 1 to 1,481,544.
        images_per_class: images of each, from 1 to 32.
        test_classes: classes to test on, from 1 to 1,481,544.
        test_images_per_class: images of each, from 1 to 32.
        cache_dir: folder to keep these images and those of `glyphs` in; None:
            `$KERAS_DML_CACHE` if set, else `~/.cache/keras_dml`.
        seed: 0 or more; each gives another data set.

    Returns:
        (train, test), with no class and no letter in common. Both are meant for
        self-retrieval. A class is named by its letters, such as
        `U+0041_U+0046_U+0047`.

    Raises:
        ValueError: if a count or seed is out of range.
        ImportError: if matplotlib, fontTools or Pillow is not installed.
        FileNotFoundError: if matplotlib lacks one of the fonts.

    Example:
        >>> train, test = glyph_strings(classes=100_000)  # doctest: +SKIP
        >>> len(train), len(train.class_names), len(test)  # doctest: +SKIP
        (200000, 100000, 4000)
    """
    images_per_class = checked_integer(
        images_per_class, "images_per_class", 1, DRAWINGS
    )
    test_images_per_class = checked_integer(
        test_images_per_class, "test_images_per_class", 1, DRAWINGS
    )
    seed = checked_integer(seed, "seed", 0)
    cache = default_cache_dir() if cache_dir is None else pathlib.Path(cache_dir)
    letters, test_letters = glyphs(cache, seed)
    classes = checked_integer(classes, "classes", 1, _most_strings(letters))
    test_classes = checked_integer(
        test_classes, "test_classes", 1, _most_strings(test_letters)
    )
    strings = _strings(letters, classes, (seed, 1))
    test_strings = _strings(test_letters, test_classes, (seed, 2))
    names = _names(letters, strings)
    test_names = _names(test_letters, test_strings)

    def draw_both(folder):
        images = classes * images_per_class + test_classes * test_images_per_class
        print(f"Drawing {images:,} images of glyph strings:")
        progress = keras.utils.Progbar(images, unit_name="image")
        for part, *of_part in (
            ("train", letters, strings, names, images_per_class),
            ("test", test_letters, test_strings, test_names, test_images_per_class),
        ):
            (folder / part).mkdir()
            _draw(folder / part, *of_part, seed, progress)

    of_glyphs = pathlib.Path(letters.paths[0]).parents[2].name
    counts = f"{classes}x{images_per_class}-{test_classes}x{test_images_per_class}"
    folder = cached_folder(
        cache.expanduser() / f"glyph_strings-{counts}-v{GENERATOR_VERSION}-{of_glyphs}",
        draw_both,
    )
    return (
        _dataset(folder / "train", names, images_per_class),
        _dataset(folder / "test", test_names, test_images_per_class),
    )


def _most_strings(letters):
    return len(letters.class_names) ** LETTERS


def _strings(letters, count, key):
    """(count, LETTERS) labels of letters, no row twice."""
    drawn = np.random.default_rng(key).permutation(_most_strings(letters))[:count]
    sides = (len(letters.class_names),) * LETTERS
    return np.stack(np.unravel_index(drawn, sides), axis=1)


def _names(letters, strings):
    code_points = [name.split("_")[0] for name in letters.class_names]
    return ["_".join(code_points[letter] for letter in row) for row in strings]


def _draw(folder, letters, strings, names, images_per_class, seed, progress):
    """Writes the images of some strings, each the same whatever the others."""
    pil_image = import_extra("PIL.Image", "glyph_strings", "datasets")
    drawings = [np.asarray(pil_image.open(path)) for path in letters.paths]
    drawings = np.stack(drawings).reshape(-1, DRAWINGS, IMAGE_SIZE, IMAGE_SIZE)
    for string, name in zip(strings, names, strict=True):
        rng = np.random.default_rng((seed, *map(ord, name)))
        order = [rng.permutation(DRAWINGS) for _ in string]
        for copy in range(images_per_class):
            row = [
                drawings[letter, order[place][copy]]
                for place, letter in enumerate(string)
            ]
            corners = rng.integers(0, 2 * JITTER + 1, (LETTERS, 2))
            image = pil_image.fromarray(_compose(row, corners))
            image.save(folder / f"{name}_{copy}.png")
        progress.add(images_per_class)


def _compose(row, corners):
    """One image of letters side by side, the lighter pixel on top."""
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, (drawing, (top, left)) in enumerate(zip(row, corners, strict=True)):
        seen = drawing[top : top + HEIGHT, left : left + HEIGHT]
        under = image[:, place * STEP : place * STEP + HEIGHT]
        np.maximum(under, seen, out=under)
    return image


def _dataset(folder, names, images_per_class):
    paths = [
        f"{folder}/{name}_{copy}.png"
        for name in names
        for copy in range(images_per_class)
    ]
    labels = np.repeat(np.arange(len(names)), images_per_class)
    return ImageDataset(np.array(paths), labels, tuple(names))
