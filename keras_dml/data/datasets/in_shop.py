"""In-Shop Clothes Retrieval, of DeepFashion: shop photographs of 7,982 items."""

import os

import numpy as np

from keras_dml.data.datasets._archive import check_counts
from keras_dml.data.datasets._archive import check_files_exist
from keras_dml.data.datasets._archive import find_metadata
from keras_dml.data.datasets._archive import parse_path
from keras_dml.data.datasets._archive import read_text_table
from keras_dml.data.image_dataset import ImageDataset

OFFICIAL_COUNTS = {
    "train classes": 3_997,
    "train images": 25_882,
    "test classes": 3_985,
    "query classes": 3_985,
    "query images": 14_218,
    "gallery classes": 3_985,
    "gallery images": 12_612,
}

_PARTS = ("train", "query", "gallery")
_LIST = "list_eval_partition.txt"
_DOWNLOAD = (
    f"Get {_LIST} and img.zip of the In-shop Clothes Retrieval Benchmark by way of "
    "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html and "
    "extract img.zip."
)
_REMEDY = (
    "Extract img.zip again, all of it: its folder img/ belongs beside "
    f"{_LIST}, or in Img/. img_highres.zip and the other benchmarks of DeepFashion "
    "hold other images."
)


def in_shop(root: str | os.PathLike) -> tuple[ImageDataset, ImageDataset]:
    """The In-Shop Clothes Retrieval Benchmark; each item of clothing is a class.

    It is read from its official files. 3,997 items are trained on (25,882 images). The
    other 3,985 are tested on: 14,218 queries, each against the 12,612 images of the
    gallery.

    Args:
        root: the folder with `list_eval_partition.txt`, in it or in `Eval/` or `Anno/`,
            and `img/`, in it or in `Img/`; or the folder that holds the official
            `In-shop Clothes Retrieval Benchmark`.

    Returns:
        (train, test); class names are like "id_00000002". `test.is_query` is true for
        the queries.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a line of the list is wrong, or the counts of classes and images
            are not the official ones.

    Example:
        >>> folder = "In-shop Clothes Retrieval Benchmark"
        >>> train, test = in_shop(folder)  # doctest: +SKIP
        >>> len(train), len(test), test.is_query.sum()  # doctest: +SKIP
        (25882, 26830, 14218)

    Reference:
        [Liu et al., 2016](https://doi.org/10.1109/CVPR.2016.124), "DeepFashion".
    """
    names = [_LIST, f"Eval/{_LIST}", f"Anno/{_LIST}"]
    file = find_metadata(root, "In-shop Clothes Retrieval Benchmark", names, _DOWNLOAD)
    table = read_text_table(
        file,
        {"image_name": parse_path, "item_id": str, "evaluation_status": _parse_status},
        unique=("image_name",),
        counted=True,
        header=True,
    )
    _check_items_are_in_one_part(table)
    folder = file.parent.parent if file.parent.name in ("Eval", "Anno") else file.parent
    if (folder / "Img" / "img").is_dir():
        folder = folder / "Img"
    paths = np.array([f"{folder}/{name}" for name in table["image_name"]])
    items = np.array(table["item_id"])
    status = np.array(table["evaluation_status"])
    parts = {part: status == part for part in _PARTS}
    parts["test"] = ~parts["train"]
    found = {}
    for part, rows in parts.items():
        found[f"{part} classes"] = len(np.unique(items[rows]))
        found[f"{part} images"] = int(np.count_nonzero(rows))
    check_counts(file, found, OFFICIAL_COUNTS, _REMEDY)
    check_files_exist(paths.tolist(), _REMEDY)
    train, test = parts["train"], parts["test"]
    return (
        _dataset(paths[train], items[train], None),
        _dataset(paths[test], items[test], parts["query"][test]),
    )


def _parse_status(word):
    if word not in _PARTS:
        raise ValueError(f"must be train, query or gallery; got {word[:99]!r}")
    return word


def _check_items_are_in_one_part(table):
    in_train = {}
    for row, (item, status) in enumerate(
        zip(table["item_id"], table["evaluation_status"], strict=True)
    ):
        if in_train.setdefault(item, status == "train") != (status == "train"):
            raise table.error(
                row, f"item_id {item} is both in train and in query or gallery"
            )


def _dataset(paths, items, is_query):
    class_names, labels = np.unique(items, return_inverse=True)
    return ImageDataset(paths, labels, tuple(class_names), is_query)
