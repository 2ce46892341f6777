"""Data sets laid out as one folder a class."""

import os
import pathlib

from keras_dml.data.image_dataset import ImageDataset

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def image_folder(
    root: str | os.PathLike, test_fraction: float | None = None, seed: int = 0
) -> tuple[ImageDataset, ImageDataset]:
    """A training and a test set from folders of images, one folder a class.

    Either `root/train/<class>/*` and `root/test/<class>/*`, or `root/<class>/*`,
    which is then split by class. Training and test classes are different ones, as
    the field has it: the test is on classes never seen.

    Read are JPEG, PNG, BMP, GIF and, where TensorFlow does, WebP files, told by their
    suffix; grey, RGBA and CMYK ones too, but not BMP with a palette of colours. EXIF
    orientation is left alone. Other files and hidden ones are passed over.

    Args:
        root: the folder.
        test_fraction: for `root/<class>/*`: the share of classes to test on, between
            0 and 1. None for `root/train` and `root/test`.
        seed: draws the test classes, 0 or more.

    Returns:
        (train, test).

    Raises:
        FileNotFoundError: if a folder is not there.
        ValueError: if a folder holds no images, a file is empty, a class is in both
            splits, or there are too few classes to split; the message names it.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"image_folder: no folder {str(root)!r}.")
    if test_fraction is not None:
        return _read_split(root).split_by_class(test_fraction, seed)
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise FileNotFoundError(
                f"image_folder: no folder {str(root / split)!r}. Make {root}/train and "
                f"{root}/test with one folder a class, or give test_fraction to split "
                f"the classes of {root} itself."
            )
    train = _read_split(root / "train")
    test = _read_split(root / "test")
    both = sorted(set(train.class_names) & set(test.class_names))
    if both:
        raise ValueError(
            f"image_folder: class {both[0]!r} is in both {root}/train and {root}/test "
            f"({len(both)} such). Test on classes that are not trained on."
        )
    return train, test


def _read_split(folder):
    names = sorted(entry.name for entry in _visible(folder) if entry.is_dir())
    if not names:
        raise ValueError(f"image_folder: {str(folder)!r} has no class folders.")
    paths = []
    labels = []
    for label, name in enumerate(names):
        images = _images_of(folder / name)
        paths.extend(images)
        labels.extend([label] * len(images))
    return ImageDataset(paths, labels, names)


def _images_of(folder):
    images = []
    for entry in sorted(_visible(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            raise ValueError(
                f"image_folder: {entry.path!r} is a folder inside a class folder; put "
                "the images of a class side by side."
            )
        if entry.name.lower().endswith(_SUFFIXES):
            if not os.path.exists(entry.path):
                raise FileNotFoundError(
                    f"image_folder: {entry.path!r} is a broken link; mend or remove it."
                )
            if entry.stat().st_size == 0:
                raise ValueError(f"image_folder: {entry.path!r} is an empty file.")
            images.append(entry.path)
    if not images:
        raise ValueError(
            f"image_folder: class folder {str(folder)!r} has no images "
            f"({', '.join(_SUFFIXES)})."
        )
    return images


def _visible(folder):
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]
