"""CUB-200-2011: photographs of 200 species of birds."""

import os

from keras_dml.data.datasets._archive import find_metadata
from keras_dml.data.datasets._archive import parse_id
from keras_dml.data.datasets._archive import parse_path
from keras_dml.data.datasets._archive import read_text_table
from keras_dml.data.datasets._archive import split_at_class
from keras_dml.data.image_dataset import ImageDataset

OFFICIAL_COUNTS = {
    "train classes": 100,
    "train images": 5_864,
    "test classes": 100,
    "test images": 5_924,
}

_DOWNLOAD = (
    "Download CUB_200_2011.tgz from https://data.caltech.edu/records/65de6-vp158 (or "
    "by way of https://www.vision.caltech.edu/datasets/cub_200_2011/) and extract it. "
    "CUB-200 of 2010, with its folder lists/, is another data set."
)
_REMEDY = "Extract CUB_200_2011.tgz again, all of it."


def cub200(root: str | os.PathLike) -> tuple[ImageDataset, ImageDataset]:
    """CUB-200-2011 from its official archive, extracted; each species is a class.

    Classes 1 to 100 are trained on (5,864 images) and 101 to 200 tested on (5,924), as
    is usual in metric learning. The archive's own split, which has every class in both
    parts, is not used.

    Args:
        root: the folder `CUB_200_2011` with `images.txt`, `image_class_labels.txt`,
            `classes.txt` and `images/`, or the folder that it was extracted in.

    Returns:
        (train, test); class names are like "001.Black_footed_Albatross".

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a line of the metadata is wrong, or the counts of classes and
            images are not the official ones.

    Example:
        >>> train, test = cub200("CUB_200_2011")  # doctest: +SKIP
        >>> len(train), len(test)  # doctest: +SKIP
        (5864, 5924)

    Reference:
        Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", 2011; split as in
        [Song et al., 2016](https://arxiv.org/abs/1511.06452).
    """
    file = find_metadata(root, "CUB_200_2011", ["images.txt"], _DOWNLOAD)
    folder = file.parent
    images = read_text_table(
        file,
        {"image_id": parse_id, "path": parse_path},
        unique=("image_id", "path"),
    )
    classes = read_text_table(
        folder / "classes.txt",
        {"class_id": parse_id, "class_name": str},
        unique=("class_id", "class_name"),
    )
    class_names = dict(zip(classes["class_id"], classes["class_name"], strict=True))
    return split_at_class(
        file,
        [f"{folder}/images/{path}" for path in images["path"]],
        _class_ids(folder / "image_class_labels.txt", images, class_names),
        class_names,
        OFFICIAL_COUNTS,
        _REMEDY,
    )


def _class_ids(file, images, class_names):
    """The class id of each row of `images`, from image_class_labels.txt."""
    labels = read_text_table(
        file,
        {"image_id": parse_id, "class_id": parse_id},
        unique=("image_id",),
    )
    known = set(images["image_id"])
    last = OFFICIAL_COUNTS["train classes"] + OFFICIAL_COUNTS["test classes"]
    for row, (image, number) in enumerate(
        zip(labels["image_id"], labels["class_id"], strict=True)
    ):
        if image not in known:
            raise labels.error(row, f"image_id {image} is not in images.txt")
        if number > last:
            raise labels.error(row, f"class_id must lie in 1..{last}; got {number}")
        if number not in class_names:
            raise labels.error(row, f"class_id {number} is not in classes.txt")
    class_of = dict(zip(labels["image_id"], labels["class_id"], strict=True))
    for row, image in enumerate(images["image_id"]):
        if image not in class_of:
            raise images.error(row, f"image_id {image} is not in {file.name}")
    return [class_of[image] for image in images["image_id"]]
