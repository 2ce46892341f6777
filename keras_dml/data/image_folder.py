"""Training and test sets laid out as one folder a class."""

import os
import pathlib

from keras_dml.data.class_folders import class_folders
from keras_dml.data.image_dataset import ImageDataset


def image_folder(
    root: str | os.PathLike, test_fraction: float | None = None, seed: int = 0
) -> tuple[ImageDataset, ImageDataset]:
    """A training and a test set from folders of images, one folder a class.

    Either `root/train/<class>/*` and `root/test/<class>/*`, or `root/<class>/*`,
    which is then split by class. Training and test classes are different ones, as
    the field has it: the test is on classes never seen.

    What is read in a folder is what `class_folders` reads.

    Args:
        root: the folder.
        test_fraction: for `root/<class>/*`: the share of classes to test on, between
            0 and 1. None for `root/train` and `root/test`.
        seed: draws the test classes, 0 or more.

    Returns:
        (train, test).

    Raises:
        FileNotFoundError: if a folder is not there.
        ValueError: if a folder holds no images, a file is empty or its path not UTF-8,
            a class is in both splits, or there are too few classes to split; the
            message names it.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"image_folder: no folder {str(root)!r}.")
    if test_fraction is not None:
        return class_folders(root).split_by_class(test_fraction, seed)
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise FileNotFoundError(
                f"image_folder: no folder {str(root / split)!r}. Make {root}/train and "
                f"{root}/test with one folder a class, or give test_fraction to split "
                f"the classes of {root} itself."
            )
    train = class_folders(root / "train")
    test = class_folders(root / "test")
    both = sorted(set(train.class_names) & set(test.class_names))
    if both:
        raise ValueError(
            f"image_folder: class {both[0]!r} is in both {root}/train and {root}/test "
            f"({len(both)} such). Test on classes that are not trained on."
        )
    return train, test
