"""From what a user searches for, image files or pixels, to its embeddings.

Both kinds of gallery take queries by this one function, so that they are resized and
cropped as the gallery's own images were, and a model that doesn't fit is refused.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_dml._checks import checked_embeddings
from keras_dml._checks import image_side
from keras_dml._ops import number_of_shards
from keras_dml._ops import ops
from keras_dml.data import preprocess_image

_BATCH = 100


def query_embeddings(
    embedder: keras.Model, images: Any, image_size: int, resize: int, dim: int
) -> np.ndarray:
    """Embeds images as those of a gallery were.

    Nothing is made anew for each call, so that a server may call it without end.

    Args:
        embedder: the model that the gallery's images were embedded by.
        images: a path or several, or pixels, (image_size, image_size, 3) or a batch of
            them, RGB from 0 to 255.
        image_size: side of the gallery's images after the crop, in pixels.
        resize: side before the crop.
        dim: width of the gallery's embeddings.

    Returns:
        (images, dim) floats.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the model is of another side or width, a file is no image that
            can be read, or images is of another kind, or empty.
    """
    check_embedder(embedder, image_size, dim)
    batches = _batches(images, image_size, resize)
    shards = number_of_shards(embedder)
    found = []
    for batch in batches:
        missing = -len(batch) % shards
        whole = np.concatenate([batch, np.repeat(batch[:1], missing, axis=0)])
        embeddings = embedder.predict_on_batch(whole)
        found.append(ops.convert_to_numpy(embeddings)[: len(batch)])
    return np.concatenate(found)


def check_embedder(embedder: keras.Model, image_size: int, dim: int) -> None:
    """Checks that a model gives embeddings as a gallery has them.

    Raises:
        ValueError: if it takes images of another side, or gives another width.
    """
    if not isinstance(embedder, keras.Model):
        raise ValueError(f"embedder must be a keras.Model; got {embedder!r}.")
    side, width = image_side(embedder), embedder.output_shape[-1]
    if (side, width) != (image_size, dim):
        raise ValueError(
            f"embedder {embedder.name!r} takes images of {side} pixels and gives "
            f"embeddings of {width}; the gallery was made with {image_size} and {dim}. "
            "Search with the model that it was made with, or index the images again."
        )


def checked_rows(embeddings: npt.ArrayLike, what: str, dim: int) -> np.ndarray:
    """Returns embeddings as an array, once they are known to fit a gallery.

    Args:
        embeddings: (n, dim) floats.
        what: what the rows are, for the error message.
        dim: width of the gallery's embeddings.

    Raises:
        ValueError: if they are codes, of another width, or not finite.
    """
    rows = checked_embeddings(embeddings, "embeddings")
    if rows.dtype == np.uint8 or rows.shape[1] != dim:
        raise ValueError(
            f"embeddings must be floats of shape ({what}, {dim}); got {rows.dtype} of "
            f"shape {rows.shape}."
        )
    return rows


def _batches(images, image_size, resize):
    if isinstance(images, str | os.PathLike):
        images = [images]
    if isinstance(images, np.ndarray) and images.dtype.kind in "uif":
        yield from _pixels(images, image_size)
        return
    is_list = isinstance(images, Sequence | np.ndarray) and len(images) > 0
    if not is_list or not all(isinstance(one, str | os.PathLike) for one in images):
        raise ValueError(
            "images must be paths of image files, or an array of pixels; got "
            f"{images!r:.200}."
        )
    paths = [os.fspath(one) for one in images]
    for path in paths:
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(f"no image file {path!r}.")
    for start in range(0, len(paths), _BATCH):
        yield np.stack(
            [_read(path, image_size, resize) for path in paths[start : start + _BATCH]]
        )


def _read(path, image_size, resize):
    encoded = pathlib.Path(path).read_bytes()
    return decoded_query(encoded, image_size, resize, path)


def decoded_query(
    encoded: bytes, image_size: int, resize: int, name: str
) -> np.ndarray:
    """Decodes, resizes and crops one image file.

    Args:
        encoded: its bytes.
        image_size: side after the crop.
        resize: side before it.
        name: what an error calls it.

    Returns:
        (image_size, image_size, 3) uint8.

    Raises:
        ValueError: if it can't be read.
    """
    try:
        with tf.device("CPU"):
            return preprocess_image(tf.constant(encoded), image_size, resize).numpy()
    except tf.errors.InvalidArgumentError:
        raise ValueError(
            f"can't read the image {name!r}: it is damaged, or no JPEG, PNG, BMP, GIF "
            "or WebP file that can be shown."
        ) from None


def _pixels(images, image_size):
    if images.ndim == 3:
        images = images[None]
    if images.shape[1:] != (image_size, image_size, 3) or not len(images):
        raise ValueError(
            f"pixels must have shape (images, {image_size}, {image_size}, 3), as the "
            f"model takes them; got {images.shape}. Paths of image files are resized "
            "and cropped."
        )
    if not np.isfinite(images).all():
        raise ValueError("pixels must be finite; one is infinite or not a number.")
    for start in range(0, len(images), _BATCH):
        yield images[start : start + _BATCH]
