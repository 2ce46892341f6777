"""A gallery of images that stays as it is."""

import csv
import dataclasses
import functools
import os
import pathlib
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_bool
from keras_dml._checks import checked_embeddings
from keras_dml._checks import checked_integer
from keras_dml._files import RECORD_FILE
from keras_dml._files import read_sealed_folder
from keras_dml._files import write_sealed_folder
from keras_dml.data import ImageDataset
from keras_dml.evaluation import binary_codes
from keras_dml.search._query_embeddings import checked_rows
from keras_dml.search._query_embeddings import query_embeddings
from keras_dml.search.exact_neighbors import ExactNeighbors
from keras_dml.search.load_neighbors import load_neighbors
from keras_dml.search.matches import Matches
from keras_dml.search.neighbors import Calibration
from keras_dml.search.neighbors import Neighbors

_KIND = "gallery"
_IMAGES_FILE = "images.csv"
_NEIGHBORS_FOLDER = "neighbors"
_ROWS_FILE = "embeddings.npy"


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """The embeddings of a set of images, an index of them, and which image is which.

    `save_gallery` writes one and `load_gallery` opens it; it is sealed by checksums, so
    that figures found through it can be found again. `LanceGallery` is the one that
    grows.

    Args:
        neighbors: the index, exact or approximate, by cosine.
        embeddings: (images, dim) floats; row i of the index is embeddings[i].
        paths: (images,) strings, the absolute path of each image.
        classes: (images,) strings, the class name of each image.
        image_size: side of the images that the model took, in pixels.
        resize: side that they were resized to before the crop.

    Example:
        >>> embeddings = keras_dml.evaluation.embed(embedder, test, 32, verbose=0)
        >>> save_gallery("gallery", embeddings, test, image_size=28, resize=32)
        >>> gallery = load_gallery("gallery")
        >>> matches = gallery.search(embedder, test.paths[:3], k=5)
        >>> matches.classes.shape
        (3, 5)
        >>> bool((matches.scores[:, 0] > 0.999).all())  # each finds itself
        True
    """

    neighbors: Neighbors
    embeddings: np.ndarray
    paths: np.ndarray
    classes: np.ndarray
    image_size: int
    resize: int

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    @property
    def dim(self) -> int:
        """The width of the embeddings."""
        return self.embeddings.shape[1]

    @property
    def kind(self) -> str:
        """How it is searched: the kind of `neighbors`."""
        return self.neighbors.kind

    @property
    def calibration(self) -> Calibration | None:
        """What the calibration of `neighbors` found, or None."""
        return self.neighbors.calibration

    def search(
        self,
        embedder: keras.Model,
        images: Any,
        k: int = 10,
        *,
        codes: bool = False,
        exact: bool = False,
    ) -> Matches:
        """Finds the gallery's images nearest to yours.

        An image that is in the gallery itself is found first.

        Args:
            embedder: the model that the gallery was made with.
            images: the path of an image file, or several; or pixels, (side, side, 3) or
                (images, side, side, 3), RGB from 0 to 255 as the model takes them.
            k: how many to find, at least 1.
            codes: compare binary codes by Hamming distance, exactly, where otherwise
                embeddings are compared by cosine.
            exact: compare with every image, where the index may be approximate.

        Returns:
            The k nearest of each image.

        Raises:
            FileNotFoundError: if there is no such image file.
            ValueError: if the model is of another side or width than the gallery's, an
                image can't be read, or an argument is out of range.
        """
        k = checked_integer(k, "k", 1)
        embeddings = query_embeddings(
            embedder, images, self.image_size, self.resize, self.dim
        )
        return self.search_embeddings(embeddings, k, codes=codes, exact=exact)

    def search_embeddings(
        self,
        embeddings: npt.ArrayLike,
        k: int = 10,
        *,
        codes: bool = False,
        exact: bool = False,
    ) -> Matches:
        """Finds the gallery's images nearest to embeddings.

        Args:
            embeddings: (queries, dim) floats.
            k: as in `search`.
            codes: as in `search`.
            exact: as in `search`.

        Returns:
            The k nearest of each row.

        Raises:
            ValueError: if embeddings has another width, or k is out of range.
        """
        embeddings = checked_rows(embeddings, "queries", self.dim)
        exact = checked_bool(exact, "exact")
        if checked_bool(codes, "codes"):
            rows, scores = self._codes.search(binary_codes(embeddings), k)
        elif exact:
            rows, scores = self._exact.search(embeddings, k)
        else:
            rows, scores = self.neighbors.search(embeddings, k)
        none = rows < 0
        return Matches(
            names=np.where(none, "", self.paths[rows]),
            classes=np.where(none, "", self.classes[rows]),
            scores=scores,
        )

    @functools.cached_property
    def _exact(self):
        if self.neighbors.kind == "exact":
            return self.neighbors
        exact = ExactNeighbors()
        exact.build(self.embeddings)
        return exact

    @functools.cached_property
    def _codes(self):
        codes = ExactNeighbors()
        codes.build(binary_codes(self.embeddings))
        return codes


def save_gallery(
    folder: str | os.PathLike,
    embeddings: npt.ArrayLike,
    dataset: ImageDataset,
    image_size: int,
    resize: int,
    neighbors: Neighbors | None = None,
) -> None:
    """Writes a gallery: embeddings, which images they are of, and an index.

    The folder gets `embeddings.npy`; `images.csv`, with the absolute path and the class
    of each row; `neighbors/`, which `load_neighbors` reads, where an index is given;
    and `index.json`, with checksums of all.

    Args:
        folder: a folder that does not exist yet; it appears whole or not at all.
        embeddings: (images, dim) floats of these images in their order; where the data
            set has queries and a gallery, of the gallery alone.
        dataset: the images.
        image_size: side of the images that the model takes, in pixels.
        resize: side that they were resized to before the crop, at least image_size.
        neighbors: an approximate index of the embeddings, without ids. None, or an
            exact one, which is not kept: search is exact.

    Raises:
        FileExistsError: if the folder exists.
        OSError: if it cannot be made.
        ValueError: if dataset or neighbors is of another type, their numbers of rows
            differ, the index has ids of its own or is one of codes, or a side is out of
            range.

    Example:
        >>> embeddings = keras_dml.evaluation.embed(embedder, test, 32, verbose=0)
        >>> save_gallery("gallery", embeddings, test, image_size=28, resize=32)
        >>> load_gallery("gallery").classes.tolist() == [
        ...     test.class_names[label] for label in test.labels
        ... ]
        True
    """
    if not isinstance(dataset, ImageDataset):
        raise ValueError(f"dataset must be an ImageDataset; got {dataset!r}.")
    image_size = checked_integer(image_size, "image_size", 1)
    resize = checked_integer(resize, "resize", image_size)
    rows = checked_embeddings(embeddings, "embeddings")
    in_gallery = slice(None) if dataset.is_query is None else ~dataset.is_query
    paths, labels = dataset.paths[in_gallery], dataset.labels[in_gallery]
    if rows.dtype == np.uint8 or len(rows) != len(paths):
        raise ValueError(
            f"embeddings must be floats of shape ({len(paths)}, dim), a row for each "
            f"image of the gallery; got {rows.dtype} of shape {rows.shape}."
        )
    if neighbors is not None:
        _check_neighbors(neighbors, rows)

    def write(unfinished):
        np.save(unfinished / _ROWS_FILE, rows.astype(np.float32, copy=False))
        if neighbors is not None and neighbors.kind != "exact":
            neighbors.save(unfinished / _NEIGHBORS_FOLDER)
        file = unfinished / _IMAGES_FILE
        with open(file, "w", newline="", encoding="utf-8") as stream:
            lines = csv.writer(stream)
            lines.writerow(("path", "class"))
            for path, label in zip(paths, labels, strict=True):
                lines.writerow((os.path.abspath(path), dataset.class_names[label]))

    record = {"kind": _KIND, "image_size": image_size, "resize": resize}
    write_sealed_folder(folder, record, write)


def _check_neighbors(neighbors, rows):
    if not isinstance(neighbors, Neighbors):
        raise ValueError(
            f"neighbors must be an index of keras_dml.search; got {neighbors!r}."
        )
    found = (neighbors.metric, neighbors.count, neighbors.dim)
    if found != ("cosine", *rows.shape) or neighbors.ids is not None:
        raise ValueError(
            f"neighbors must index these {len(rows)} embeddings of {rows.shape[1]}, "
            f"without ids; it has {neighbors.count} rows of {neighbors.dim} under "
            f"{neighbors.metric!r}{'' if neighbors.ids is None else ' with ids'}."
        )


def read_gallery(folder: pathlib.Path) -> Gallery:
    """Reads what `save_gallery` wrote.

    Args:
        folder: the folder given to `save_gallery`. It must stay as long as the gallery
            is used.

    Returns:
        The gallery; embeddings are mapped from their file.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if the files are damaged or do not belong together.
        ImportError: if the library of the index is not installed.
    """
    record = read_sealed_folder(folder)
    files = record["files"]
    if record.get("kind") != _KIND or not {_IMAGES_FILE, _ROWS_FILE} <= set(files):
        raise ValueError(
            f"{folder} holds an index of kind {record.get('kind')!r}, and no gallery "
            "with its embeddings. Pass a folder that `save_gallery` wrote, or write it "
            "again: version 0.2 kept no embeddings."
        )
    try:
        image_size = checked_integer(record["image_size"], "image_size", 1)
        resize = checked_integer(record["resize"], "resize", image_size)
        rows = np.load(folder / _ROWS_FILE, mmap_mode="r", allow_pickle=False)
        rows = checked_embeddings(rows, _ROWS_FILE)
        if f"{_NEIGHBORS_FOLDER}/{RECORD_FILE}" in files:
            neighbors = load_neighbors(folder / _NEIGHBORS_FOLDER)
            _check_neighbors(neighbors, rows)
        else:
            neighbors = ExactNeighbors()
            neighbors.build(rows)
    except (KeyError, EOFError, ValueError) as error:
        raise ValueError(
            f"{folder} is damaged: {error}. Write the gallery again."
        ) from error
    with open(folder / _IMAGES_FILE, newline="", encoding="utf-8") as stream:
        lines = list(csv.reader(stream))
    is_whole = (
        lines[:1] == [["path", "class"]]
        and len(lines) == 1 + len(rows)
        and all(len(line) == 2 for line in lines)
    )
    if not is_whole:
        raise ValueError(
            f"{folder / _IMAGES_FILE} must list the path and class of each of the "
            f"{len(rows)} images of the gallery, under a header; it has {len(lines)} "
            "lines. Write the gallery again."
        )
    paths, classes = np.array(lines[1:], np.str_).T
    return Gallery(neighbors, rows, paths, classes, image_size, resize)
