"""Stanford Online Products: photographs of 22,634 products by sellers on eBay."""

import os

from keras_dml.data.datasets._archive import find_metadata
from keras_dml.data.datasets._archive import parse_id
from keras_dml.data.datasets._archive import parse_path
from keras_dml.data.datasets._archive import read_text_table
from keras_dml.data.datasets._archive import split_at_class
from keras_dml.data.image_dataset import ImageDataset

OFFICIAL_COUNTS = {
    "train classes": 11_318,
    "train images": 59_551,
    "test classes": 11_316,
    "test images": 60_502,
}

_DOWNLOAD = (
    "Download Stanford_Online_Products.zip from "
    "https://cvgl.stanford.edu/projects/lifted_struct/ "
    "(ftp://cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip) and extract it."
)
_REMEDY = "Extract Stanford_Online_Products.zip again, all of it."


def stanford_online_products(
    root: str | os.PathLike,
) -> tuple[ImageDataset, ImageDataset]:
    """Stanford Online Products from its official archive, extracted.

    Each product is a class. 11,318 of them are trained on (59,551 images) and 11,316
    tested on (60,502), as `Ebay_train.txt` and `Ebay_test.txt` say.

    Args:
        root: the folder `Stanford_Online_Products` with these two files and the
            folders of the twelve kinds of product, such as `bicycle_final/`; or the
            folder that it was extracted in.

    Returns:
        (train, test); class names are the official class ids, from "1".

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a line of the metadata is wrong, or the counts of classes and
            images are not the official ones.

    Example:
        >>> folder = "Stanford_Online_Products"
        >>> train, test = stanford_online_products(folder)  # doctest: +SKIP
        >>> len(train), len(test)  # doctest: +SKIP
        (59551, 60502)

    Reference:
        [Song et al., 2016](https://arxiv.org/abs/1511.06452).
    """
    file = find_metadata(
        root, "Stanford_Online_Products", ["Ebay_train.txt"], _DOWNLOAD
    )
    folder = file.parent
    last = OFFICIAL_COUNTS["train classes"]
    train = _read(file, 1, last)
    test = _read(
        folder / "Ebay_test.txt", last + 1, last + OFFICIAL_COUNTS["test classes"]
    )
    trained_on = set(train["path"])
    for row, path in enumerate(test["path"]):
        if path in trained_on:
            raise test.error(row, f"path {path} is also in {file.name}")
    class_ids = train["class_id"] + test["class_id"]
    return split_at_class(
        folder,
        [f"{folder}/{path}" for path in train["path"] + test["path"]],
        class_ids,
        {number: str(number) for number in class_ids},
        OFFICIAL_COUNTS,
        _REMEDY,
    )


def _read(file, first, last):
    """The table of one list, whose class ids are to be from first to last."""
    table = read_text_table(
        file,
        {
            "image_id": parse_id,
            "class_id": parse_id,
            "super_class_id": parse_id,
            "path": parse_path,
        },
        unique=("image_id", "path"),
        header=True,
    )
    for row, number in enumerate(table["class_id"]):
        if not first <= number <= last:
            raise table.error(
                row, f"class_id must lie in {first}..{last} here; got {number}"
            )
    return table
