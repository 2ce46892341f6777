"""An index of a gallery: what to search, and which image each row is."""

import csv
import dataclasses
import os
import pathlib

import numpy as np

from keras_dml._files import RECORD_FILE
from keras_dml._files import read_sealed_folder
from keras_dml._files import write_sealed_folder
from keras_dml.data import ImageDataset
from keras_dml.search.load_neighbors import load_neighbors
from keras_dml.search.neighbors import Neighbors

_KIND = "gallery"
_IMAGES_FILE = "images.csv"
_NEIGHBORS_FOLDER = "neighbors"
# The name that version 0.1 wrote.
_OLD_NEIGHBORS_FOLDER = "neighbours"


@dataclasses.dataclass(frozen=True, eq=False)
class GalleryIndex:
    """An index of embeddings and the images that they came from.

    Args:
        neighbors: finds the rows of the nearest embeddings.
        paths: (images,) strings; row i of the index is the image paths[i].
        classes: (images,) strings, the class name of each image.
    """

    neighbors: Neighbors
    paths: np.ndarray
    classes: np.ndarray


def save_gallery_index(
    folder: str | os.PathLike, neighbors: Neighbors, dataset: ImageDataset
) -> None:
    """Writes an index with the list of its images.

    The folder gets `neighbors/`, which `load_neighbors` reads; `images.csv`, with the
    absolute path and the class of each row; and `index.json`, with checksums of both.

    Args:
        folder: a folder that does not exist yet; it appears whole or not at all.
        neighbors: an index of the embeddings of these images in their order, without
            ids; where the data set has queries and a gallery, of the gallery alone.
        dataset: the images.

    Raises:
        FileExistsError: if the folder exists.
        OSError: if it cannot be made.
        ValueError: if neighbors or dataset is of another type, or the index has another
            number of rows, or ids of its own.

    Example:
        >>> index = ExactNeighbors()
        >>> index.build(keras_dml.evaluation.embed(embedder, test, verbose=0))
        >>> save_gallery_index("index", index, test)
        >>> load_gallery_index("index").classes.tolist() == [
        ...     test.class_names[label] for label in test.labels
        ... ]
        True
    """
    if not isinstance(dataset, ImageDataset) or not isinstance(neighbors, Neighbors):
        raise ValueError(
            "neighbors must be an index of keras_dml.search, and dataset the "
            f"ImageDataset of its images; got {neighbors!r} and {dataset!r}."
        )
    in_gallery = slice(None) if dataset.is_query is None else ~dataset.is_query
    paths, labels = dataset.paths[in_gallery], dataset.labels[in_gallery]
    if neighbors.count != len(paths) or neighbors.ids is not None:
        raise ValueError(
            f"neighbors must have a row for each of the {len(paths)} images, and no "
            f"ids; it has {neighbors.count} rows"
            f"{'' if neighbors.ids is None else ' with ids'}. Build it from their "
            "embeddings alone."
        )

    def write(unfinished):
        neighbors.save(unfinished / _NEIGHBORS_FOLDER)
        file = unfinished / _IMAGES_FILE
        with open(file, "w", newline="", encoding="utf-8") as stream:
            rows = csv.writer(stream)
            rows.writerow(("path", "class"))
            for path, label in zip(paths, labels, strict=True):
                rows.writerow((os.path.abspath(path), dataset.class_names[label]))

    write_sealed_folder(folder, {"kind": _KIND}, write)


def load_gallery_index(folder: str | os.PathLike) -> GalleryIndex:
    """Reads what `save_gallery_index` wrote, in this version or in 0.1.

    Args:
        folder: the folder given to `save_gallery_index`. It must stay as long as the
            index is used.

    Returns:
        The index and its images.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if the files are damaged or do not belong together.
        ImportError: if the library of the index is not installed.
    """
    folder = pathlib.Path(folder)
    record = read_sealed_folder(folder)
    files = record["files"]
    neighbors_folder = _NEIGHBORS_FOLDER
    if f"{_OLD_NEIGHBORS_FOLDER}/{RECORD_FILE}" in files:
        neighbors_folder = _OLD_NEIGHBORS_FOLDER
    is_gallery = {_IMAGES_FILE, f"{neighbors_folder}/{RECORD_FILE}"} <= set(files)
    if record.get("kind") != _KIND or not is_gallery:
        raise ValueError(
            f"{folder} holds an index of kind {record.get('kind')!r} without a list of "
            "its images. Pass a folder that `save_gallery_index` wrote."
        )
    neighbors = load_neighbors(folder / neighbors_folder)
    with open(folder / _IMAGES_FILE, newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    is_whole = (
        rows[:1] == [["path", "class"]]
        and len(rows) == 1 + neighbors.count
        and all(len(row) == 2 for row in rows)
    )
    if not is_whole:
        raise ValueError(
            f"{folder / _IMAGES_FILE} must list the path and class of each of the "
            f"{neighbors.count} images of the index, under a header; it has "
            f"{len(rows)} lines. Build the index again."
        )
    paths, classes = np.array(rows[1:], np.str_).T
    return GalleryIndex(neighbors, paths, classes)
