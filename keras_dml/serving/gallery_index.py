"""An index of a gallery: what to search, and which image each find is."""

import csv
import dataclasses
import os
import pathlib
import shutil
import tempfile

import numpy as np

from keras_dml.data import ImageDataset
from keras_dml.evaluation import AnnoyNeighbours

_NEIGHBOURS = "neighbours"
_IMAGES = "images.csv"


@dataclasses.dataclass(frozen=True, eq=False)
class GalleryIndex:
    """An Annoy index of embeddings and the images that they came from.

    Args:
        neighbours: finds the rows of the nearest embeddings.
        paths: (images,) strings; row i of the index is paths[i].
        classes: (images,) strings, the class name of each image.
    """

    neighbours: AnnoyNeighbours
    paths: np.ndarray
    classes: np.ndarray


def save_gallery_index(
    folder: str | os.PathLike,
    embeddings: np.ndarray,
    dataset: ImageDataset,
    trees: int = 50,
    search_k: int | None = None,
    seed: int = 0,
) -> None:
    """Indexes a data set and writes the index with the list of its images.

    The folder gets `neighbours/`, which `AnnoyNeighbours.load` reads, and
    `images.csv`, with the absolute path and the class of each row. Where the data set
    has queries and a gallery, the gallery alone is indexed.

    Args:
        folder: a folder that does not exist yet; it appears whole or not at all.
        embeddings: (images, dim) floats, in the order of the data set.
        dataset: the images.
        trees: trees of the index, as in `AnnoyNeighbours`.
        search_k: nodes a search inspects, as in `AnnoyNeighbours`.
        seed: seed of the index.

    Raises:
        FileExistsError: if the folder exists.
        ValueError: if there is not one embedding an image.
    """
    folder = pathlib.Path(folder)
    if folder.exists():
        raise FileExistsError(f"{str(folder)!r} exists. Name another, or delete it.")
    if len(embeddings) != len(dataset):
        raise ValueError(
            f"embeddings must have a row for each of the {len(dataset)} images; got "
            f"{len(embeddings)}."
        )
    in_gallery = slice(None) if dataset.is_query is None else ~dataset.is_query
    neighbours = AnnoyNeighbours(embeddings.shape[1], trees, search_k, seed)
    neighbours.build(embeddings[in_gallery])
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = pathlib.Path(
        tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent)
    )
    try:
        neighbours.save(unfinished / _NEIGHBOURS)
        with open(unfinished / _IMAGES, "w", newline="", encoding="utf-8") as stream:
            rows = csv.writer(stream)
            rows.writerow(("path", "class"))
            labels = dataset.labels[in_gallery]
            for path, label in zip(dataset.paths[in_gallery], labels, strict=True):
                rows.writerow((os.path.abspath(path), dataset.class_names[label]))
        unfinished.chmod(0o755)
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def load_gallery_index(folder: str | os.PathLike) -> GalleryIndex:
    """Reads what `save_gallery_index` wrote.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if the files are damaged or do not belong together.
    """
    folder = pathlib.Path(folder)
    neighbours = AnnoyNeighbours.load(folder / _NEIGHBOURS)
    with open(folder / _IMAGES, newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    is_whole = (
        rows[:1] == [["path", "class"]]
        and len(rows) == 1 + neighbours.count
        and all(len(row) == 2 for row in rows)
    )
    if not is_whole:
        raise ValueError(
            f"{folder / _IMAGES} must list the path and class of each of the "
            f"{neighbours.count} images of the index, under a header; it has "
            f"{len(rows)} lines. Make the index anew."
        )
    paths, classes = np.array(rows[1:], np.str_).T
    return GalleryIndex(neighbours, paths, classes)
