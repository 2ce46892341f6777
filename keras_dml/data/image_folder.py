"""Data sets laid out as one folder per class."""

import os
import pathlib

import numpy as np

from keras_dml._checks import checked_number
from keras_dml.data.image_dataset import ImageDataset

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def image_folder(
    root: str | os.PathLike,
    test_fraction: float | None = None,
    seed: int = 0,
    check_files: bool = True,
) -> tuple[ImageDataset, ImageDataset]:
    """A training and a test set from folders of images, one folder per class.

    Either `root/train/<class>/*` and `root/test/<class>/*`, or `root/<class>/*`,
    which is then split by class. No class is in both, as metric learning is tested on
    classes never seen in training.

    Which files are read is up to `class_folders`.

    Args:
        root: the folder.
        test_fraction: for `root/<class>/*`: the share of classes to test on, between
            0 and 1. None for `root/train` and `root/test`.
        seed: draws the test classes, 0 or more.
        check_files: refuse empty files, broken links, pipes and devices, as
            `class_folders` does.

    Returns:
        (train, test).

    Raises:
        FileNotFoundError: if a folder is missing, or a link is broken.
        ValueError: if a folder holds no images, a file is empty, a pipe or a device, or
            its path not UTF-8, a class is in both splits, there are too few classes to
            split, or an argument is out of range; the message names it.

    Example:
        >>> import os
        >>> for name in ("ani", "crow", "gull", "wren"):
        ...     os.makedirs(f"birds/{name}")
        ...     keras.utils.save_img(f"birds/{name}/1.png", np.zeros((9, 9, 3)))
        >>> train, test = image_folder("birds", test_fraction=0.5)
        >>> train.class_names, test.class_names
        (('crow', 'wren'), ('ani', 'gull'))
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"image_folder: no folder {str(root)!r}.")
    if test_fraction is not None:
        test_fraction = checked_number(test_fraction, "test_fraction", above=0, below=1)
        return class_folders(root, check_files).split_by_class(test_fraction, seed)
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise FileNotFoundError(
                f"image_folder: no folder {str(root / split)!r}. Make {root}/train and "
                f"{root}/test with one folder a class, or give test_fraction to split "
                f"the classes of {root} itself."
            )
    train = class_folders(root / "train", check_files)
    test = class_folders(root / "test", check_files)
    both = sorted(set(train.class_names) & set(test.class_names))
    if both:
        raise ValueError(
            f"image_folder: class {both[0]!r} is in both {root}/train and {root}/test "
            f"({len(both)} such). Test on classes that are not trained on."
        )
    return train, test


def class_folders(folder: str | os.PathLike, check_files: bool = True) -> ImageDataset:
    """The images in `folder/<class>/*` as one data set.

    JPEG, PNG, BMP, GIF and, where TensorFlow reads them, WebP files are read, known by
    their suffix; gray, RGBA and CMYK ones and palettes too. EXIF orientation is
    ignored. Other files and hidden ones are ignored.

    Args:
        folder: the folder.
        check_files: refuse empty files, links to nowhere, pipes and devices. If false,
            they are in the data set, for `find_bad_images` to find with all that can't
            be decoded.

    Returns:
        The images, sorted by the name of their class and then by their own.

    Raises:
        FileNotFoundError: if there is no such folder, or a link in it is broken.
        ValueError: if a folder holds no images, a file is empty, a pipe or a device, or
            its path is not UTF-8; the message names it.

    Example:
        >>> import os
        >>> for name in ("ani", "wren"):
        ...     os.makedirs(f"birds/{name}")
        ...     keras.utils.save_img(f"birds/{name}/1.png", np.zeros((9, 9, 3)))
        >>> class_folders("birds").class_names
        ('ani', 'wren')
    """
    folder = pathlib.Path(folder)
    classes = _class_folders(folder, check_files)
    if not classes:
        raise ValueError(f"{str(folder)!r} has no class folders.")
    return _dataset_of(classes)


def gallery_folder(folder: str | os.PathLike, check_files: bool = True) -> ImageDataset:
    """The images of a folder that is to be searched, in class folders or without.

    Images in `folder/<class>/*` have that class, and those in the folder itself the
    class "". Which files are read is up to `class_folders`.

    Args:
        folder: the folder.
        check_files: as in `class_folders`.

    Returns:
        The images, sorted by the name of their class and then by their own.

    Raises:
        FileNotFoundError: where `class_folders` raises.
        ValueError: where `class_folders` raises, but for a folder that has images and
            no class folders, and for empty class folders, which are ignored.

    Example:
        >>> import os
        >>> os.makedirs("birds/wren")
        >>> for name in ("wren/1.png", "2.png"):
        ...     keras.utils.save_img(f"birds/{name}", np.zeros((9, 9, 3)))
        >>> birds = gallery_folder("birds")
        >>> birds.class_names, birds.paths.tolist()
        (('', 'wren'), ['birds/2.png', 'birds/wren/1.png'])
    """
    folder = pathlib.Path(folder)
    classes = _class_folders(folder, check_files, may_be_empty=True)
    files = [entry for entry in _visible(folder) if not os.path.isdir(entry.path)]
    without_class = _images_among(files, check_files)
    if without_class:
        classes = {"": without_class, **classes}
    if not classes:
        raise ValueError(
            f"{str(folder)!r} has no images ({', '.join(_SUFFIXES)}), and no class "
            "folders."
        )
    return _dataset_of(classes)


def _class_folders(folder, check_files, may_be_empty=False):
    """{name of a class: paths of its images}."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}.")
    names = sorted(entry.name for entry in _visible(folder) if _is_folder(entry))
    classes = {
        name: _images_of(folder / name, check_files, may_be_empty) for name in names
    }
    return {name: images for name, images in classes.items() if images}


def _dataset_of(classes):
    paths = [path for images in classes.values() for path in images]
    labels = np.repeat(np.arange(len(classes)), [len(one) for one in classes.values()])
    return ImageDataset(np.array(paths), labels, tuple(classes))


def _is_folder(entry):
    """Tells a class folder from a file; a link to neither is no file to ignore."""
    if not os.path.exists(entry.path):
        raise FileNotFoundError(_broken_link(entry))
    return os.path.isdir(entry.path)


def _broken_link(entry):
    return f"{entry.path!r} is a broken link; repair or remove it."


def _images_of(folder, check_files, may_be_empty):
    entries = _visible(folder)
    for entry in sorted(entries, key=lambda entry: entry.name):
        if os.path.isdir(entry.path):
            raise ValueError(
                f"{entry.path!r} is a folder inside a class folder; put "
                "the images of a class side by side."
            )
    images = _images_among(entries, check_files)
    if not images and not may_be_empty:
        raise ValueError(
            f"class folder {str(folder)!r} has no images ({', '.join(_SUFFIXES)})."
        )
    return images


def _images_among(entries, check_files):
    images = []
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.name.lower().endswith(_SUFFIXES):
            if not _is_utf8(entry.path):
                raise ValueError(
                    f"{entry.path!r} is not UTF-8, as TensorFlow needs paths to be; "
                    "rename the file, or the folder whose name it is."
                )
            if check_files and not os.path.exists(entry.path):
                raise FileNotFoundError(_broken_link(entry))
            if check_files and not os.path.isfile(entry.path):
                raise ValueError(f"{entry.path!r} is no regular file; remove it.")
            if check_files and entry.stat().st_size == 0:
                raise ValueError(f"{entry.path!r} is an empty file.")
            images.append(entry.path)
    return images


def _visible(folder):
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _is_utf8(path):
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
