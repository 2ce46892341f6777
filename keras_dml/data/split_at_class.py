"""The zero-shot split of most data sets: the first classes against the others."""

import os
from collections.abc import Sequence

import numpy as np

from keras_dml.data.check_counts import check_counts
from keras_dml.data.check_files_exist import check_files_exist
from keras_dml.data.image_dataset import ImageDataset


def split_at_class(
    file: str | os.PathLike,
    paths: Sequence[str],
    class_ids: Sequence[int],
    class_names: dict[int, str],
    counts: dict[str, int],
    remedy: str,
) -> tuple[ImageDataset, ImageDataset]:
    """Trains on the classes 1 to `counts["train classes"]`, tests on the others.

    Args:
        file: the metadata, for errors.
        paths: (images,) files.
        class_ids: (images,) integers from 1 to the number of both splits' classes.
        class_names: by class id, all that are in `class_ids`.
        counts: the official "train classes", "train images", "test classes" and
            "test images".
        remedy: a sentence on what to extract, for errors.

    Returns:
        (train, test).

    Raises:
        FileNotFoundError: if an image file is not there.
        ValueError: if the counts are not the official ones.
    """
    labels = np.asarray(class_ids) - 1
    in_train = labels < counts["train classes"]
    check_counts(
        file,
        {
            "train classes": len(np.unique(labels[in_train])),
            "train images": np.count_nonzero(in_train),
            "test classes": len(np.unique(labels[~in_train])),
            "test images": np.count_nonzero(~in_train),
        },
        counts,
        remedy,
    )
    check_files_exist(paths, remedy)
    names = [class_names[number] for number in range(1, labels.max() + 2)]
    everything = ImageDataset(paths, labels, names)
    first = np.arange(len(names)) < counts["train classes"]
    return everything.subset(first), everything.subset(~first)
