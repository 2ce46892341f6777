"""Embeddings with thumbnails for TensorBoard's Embedding Projector."""

import math
import os
import pathlib

import numpy as np
import tensorflow as tf

from keras_dml._checks import checked_floats
from keras_dml._checks import checked_integer
from keras_dml._files import atomic_file
from keras_dml._ops import import_extra
from keras_dml.data import ImageDataset

_THUMBNAIL = 64  # pixels
_MOST = 5_000  # images, of a picture of 4,544 × 4,544; browsers take 8,192


def write_projector(
    folder: str | os.PathLike,
    embeddings: np.ndarray,
    dataset: ImageDataset,
    seed: int = 0,
) -> None:
    """Writes embeddings and thumbnails for TensorBoard's Embedding Projector.

    The tab "Projector" then shows each image at its place in a PCA, t-SNE or UMAP of
    the embeddings, to be colored by class and searched by class or file. Of more than
    5,000 images it shows that many, drawn at random.

    Args:
        folder: a folder of TensorBoard's event files, such as `logs/train` of Keras's
            `TensorBoard("logs")`; it is created if it does not exist.
        embeddings: (images, dim) floats, in the order of the data set.
        dataset: the images.
        seed: an integer of at least 0, by which images are drawn.

    Raises:
        ValueError: if embeddings are not one row an image.
        ImportError: if TensorBoard is not installed.
        tf.errors.InvalidArgumentError: if an image can't be decoded; it names the file.

    Example:
        >>> embeddings = keras_dml.evaluation.embed(embedder, test, verbose=0)
        >>> write_projector("logs/train", embeddings, test)
    """
    if not isinstance(dataset, ImageDataset):
        raise ValueError(f"dataset must be an ImageDataset; got {dataset!r:.200}.")
    embeddings = checked_floats(embeddings, "embeddings")
    seed = checked_integer(seed, "seed", 0)
    if len(embeddings) != len(dataset):
        raise ValueError(
            f"embeddings must have one row for each of the {len(dataset)} images; got "
            f"{len(embeddings)}. Pass the embeddings of this data set."
        )
    projector = import_extra(
        "tensorboard.plugins.projector", "the Embedding Projector", "experiments"
    )
    shown = np.random.default_rng(seed).permutation(len(dataset))[:_MOST]
    shown.sort()
    table, thumbnails = _table(dataset, shown), _thumbnails(dataset.paths[shown])
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = projector.ProjectorConfig()
    info = config.embeddings.add(
        tensor_name="embeddings",
        tensor_path="projector_embeddings.tsv",
        metadata_path="projector_images.tsv",
    )
    info.sprite.image_path = "projector_thumbnails.png"
    info.sprite.single_image_dim.extend((_THUMBNAIL, _THUMBNAIL))

    with atomic_file(folder / info.tensor_path) as file:
        np.savetxt(file, embeddings[shown], "%.4g", delimiter="\t")
    with atomic_file(folder / info.metadata_path) as file:
        file.write_text(table, encoding="utf-8")
    with atomic_file(folder / info.sprite.image_path) as file:
        tf.io.write_file(str(file), tf.io.encode_png(thumbnails))
    # TensorBoard looks at the other files once this one is there.
    with atomic_file(folder / "projector_config.pbtxt") as file:
        file.write_text(str(config), encoding="utf-8")


def _table(dataset, shown):
    """Class and file of each image, below their names, separated by tabs."""
    rows = ["class\tfile"]
    for row in shown:
        cells = dataset.class_names[dataset.labels[row]], dataset.paths[row]
        rows.append("\t".join(" ".join(cell.split()) for cell in cells))
    return "\n".join(rows) + "\n"


def _thumbnails(paths):
    """All images in a square, row by row, black where there is none."""
    side = math.ceil(math.sqrt(len(paths)))
    grid = np.zeros((side * side, _THUMBNAIL, _THUMBNAIL, 3), np.uint8)
    images = ImageDataset(paths, np.zeros(len(paths), int), ("",))
    batches = images.images(_THUMBNAIL, _THUMBNAIL).as_numpy_iterator()
    grid[: len(paths)] = np.concatenate(list(batches))
    rows = grid.reshape(side, side, _THUMBNAIL, _THUMBNAIL, 3)
    return rows.swapaxes(1, 2).reshape(side * _THUMBNAIL, side * _THUMBNAIL, 3)
