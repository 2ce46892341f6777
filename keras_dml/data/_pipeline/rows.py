"""Arrays and data sets with `load(rows)`, checked, as the pipeline reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_dml._checks import checked_integer
from keras_dml.data._pipeline.images import resized_side

_WANTED = (
    "Pass an ImageDataset, arrays (x, labels), or an object with labels and load(rows) "
    "as keras_dml.data.LoadableDataset describes."
)


@dataclasses.dataclass(frozen=True)
class Rows:
    """What can be read of a data set that is not image files.

    Attributes:
        labels: (n,) integers or strings.
        load: from (some,) int64 to (some, *shape) of the dtype.
        shape: of one row.
        dtype: TensorFlow's.
    """

    labels: np.ndarray
    load: Callable[[np.ndarray], npt.ArrayLike]
    shape: tuple[int, ...]
    dtype: tf.DType

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Loads batches of rows, one batch after another.

        Args:
            batches: a data set of tuples (rows, ...): (batch,) int64, and tensors that
                are passed on.

        Returns:
            A data set of (x, rows, ...), one for each of `batches`.
        """

        def read(rows, *rest):
            x = tf.numpy_function(self._load_checked, (rows,), self.dtype)
            return tf.ensure_shape(x, (*rows.shape, *self.shape)), rows, *rest

        return batches.map(read)

    def _load_checked(self, rows):
        x = _loaded(self.load, rows)
        expected = (len(rows), *self.shape)
        if x.shape != expected or tf.as_dtype(x.dtype) != self.dtype:
            raise ValueError(
                f"load must give rows of one shape and dtype: shape {expected}, "
                f"{self.dtype.name}, as of the first and last row; for the rows "
                f"{rows[:3]} … it gave shape {x.shape}, {x.dtype}."
            )
        return x


def checked_rows(dataset: Any) -> Rows:
    """Returns a data set that is not image files as `Rows`, once known to be whole.

    Args:
        dataset: a tuple (x, labels) of arrays, or an object with `labels` and `load`,
            whose first and last row are loaded.

    Raises:
        ValueError: if it is something else, x and labels don't fit each other, labels
            are not one integer or string for each row, or `load` doesn't give what it
            must.
    """
    if isinstance(dataset, tuple) and len(dataset) == 2:
        return _rows_of_arrays(*dataset)
    if hasattr(dataset, "labels") and callable(getattr(dataset, "load", None)):
        return _rows_on_request(dataset)
    if isinstance(dataset, tf.data.Dataset | keras.utils.Sequence):
        raise ValueError(
            f"dataset is a {type(dataset).__name__}, which is read in its own order; "
            "the rows of a batch can't be picked from it. "
            f"{_WANTED} Its own batches can be passed to model.fit as they are."
        )
    raise ValueError(f"dataset is of type {type(dataset).__name__}. {_WANTED}")


def _rows_of_arrays(x, labels):
    if not isinstance(x, np.ndarray):
        x = _array(x, "x", "Pad rows of several lengths to one.")
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(
            f"x must be an array of at least one row; got shape {x.shape}. Pass one "
            "array as x, in a tuple (x, labels)."
        )
    labels = _checked_labels(labels)
    if len(labels) != len(x):
        raise ValueError(
            f"x and labels must have as many rows; got {len(x):,} and {len(labels):,}."
        )
    return Rows(labels, lambda rows: x[rows], x.shape[1:], _tensor_type(x, "x"))


def _rows_on_request(dataset):
    labels = _checked_labels(dataset.labels)
    rows = np.unique([0, len(labels) - 1])
    x = _loaded(dataset.load, rows)
    if x.shape[:1] != rows.shape:
        raise ValueError(
            f"load must give one row for each it is asked for; load({rows}) gave an "
            f"array of shape {x.shape}. Stack what is loaded, in the order asked for."
        )
    dtype = _tensor_type(x, "what load gives")
    is_query = getattr(dataset, "is_query", None)
    if is_query is not None:
        check_queries(is_query, len(labels), "rows")
    return Rows(labels, dataset.load, x.shape[1:], dtype)


def _loaded(load, rows):
    """Gives what load gives as an array."""
    return _array(
        load(rows),
        "what load gives",
        "Let it give x alone, as the labels are those of `labels`, and rows of one "
        "shape.",
    )


def _array(value, name, remedy):
    """Gives anything like an array as one."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} makes no array: {error} {remedy}") from error


def _tensor_type(x, name):
    if x.dtype.kind in "US":
        return tf.string
    try:
        if x.dtype.kind != "O":
            return tf.as_dtype(x.dtype)
    except TypeError:
        pass
    raise ValueError(
        f"{name} has dtype {x.dtype}, of which TensorFlow makes no tensor. Convert it "
        "with astype; pad rows of several lengths to one."
    )


def _checked_labels(labels):
    labels = _array(labels, "labels", "Pass one integer for each row.")
    if labels.ndim == 2:
        remedy = (
            "a column. Pass labels[:, 0]."
            if labels.shape[1] == 1
            else "as of one-hot labels. Pass labels.argmax(axis=1)."
        )
        raise ValueError(
            "labels must be one integer for each row; got shape "
            f"{labels.shape}, {remedy}"
        )
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(
            f"labels must be one integer for each row, at least one; got shape "
            f"{labels.shape}."
        )
    if labels.dtype.kind not in "iuUSTO":
        raise ValueError(
            f"labels must be integers; got dtype {labels.dtype}. {_to_integers(labels)}"
        )
    return labels


def _to_integers(labels):
    """Says how labels that are no integers become some, each class one."""
    if labels.dtype.kind in "bf":
        if not np.isfinite(labels).all():
            return "Leave out the rows whose label is NaN or infinite."
        if (labels == np.floor(labels)).all():
            return 'Use astype("int64").'
    return "Number the classes: `np.unique(labels, return_inverse=True)[1]`."


def checked_crop(
    shape: tuple[int, ...], image_size: int | None, resize: int | None, flip: bool
) -> tuple[int | None, int | None]:
    """Returns image_size and resize, once known to be possible for rows of a shape.

    Args:
        shape: of one row.
        image_size: side of a square crop in pixels; None: no crop.
        resize: side in pixels that images are resized to before; None: not at all.
        flip: whether they are flipped.

    Raises:
        ValueError: if a side is out of range, or rows are not (height, width, channels)
            where one is asked for.
    """
    asked = {"image_size": image_size, "resize": resize, "flip": flip or None}
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked:
        return None, None
    if len(shape) != 3:
        name, value = next(iter(asked.items()))
        raise ValueError(
            f"{name}={value} is for images, (height, width, channels); a row has shape "
            f"{shape}. Leave it out, or give images."
        )
    if resize is not None:
        resize = checked_integer(resize, "resize", 1)
    if image_size is None:
        return None, resize
    image_size = checked_integer(image_size, "image_size", 1)
    if resize is not None:
        return image_size, resized_side(image_size, resize)
    if image_size > min(shape[:2]):
        raise ValueError(
            f"image_size={image_size} can't be cropped from images of shape {shape}. "
            "Give resize, at least image_size, too."
        )
    return image_size, None


def check_queries(is_query: npt.ArrayLike, count: int, things: str) -> np.ndarray:
    """Returns `is_query` as an array, once known to mark some things and not others.

    Args:
        is_query: (count,) booleans.
        count: how many there must be.
        things: what they are, for the error message.

    Raises:
        ValueError: if there are not as many, they are no booleans, or all are alike.
    """
    is_query = np.asarray(is_query)
    if is_query.dtype != bool or is_query.shape != (count,):
        raise ValueError(
            f"is_query must hold one boolean for each of the {count} {things}; got "
            f"shape {is_query.shape}, dtype {is_query.dtype}."
        )
    if is_query.all() or not is_query.any():
        raise ValueError(f"is_query must mark some {things} as queries, not all.")
    return is_query


def checked_classes(labels: npt.ArrayLike) -> np.ndarray:
    """Returns labels to train on as int64, once known to number the classes from 0.

    Args:
        labels: (n,) integers; each from 0 to the largest occurs.

    Raises:
        ValueError: if they are anything else, or there are none.
    """
    labels = _checked_labels(labels)
    remedy = (
        "Number the classes from 0 without gaps: "
        "`np.unique(labels, return_inverse=True)[1]`."
    )
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels to train on must be integers; got dtype {labels.dtype}. {remedy}"
        )
    if labels.min() < 0:
        raise ValueError(f"labels must be at least 0; got {labels.min()}. {remedy}")
    # More classes than rows leave some without a row, and make bincount large.
    largest = labels.max()
    counted = labels[labels <= len(labels)].astype(np.int64)
    sizes = np.bincount(counted, minlength=len(labels) + 1)
    if not sizes[: min(largest, len(labels)) + 1].all():
        raise ValueError(
            f"labels must hold each integer from 0 to {largest}; {sizes.argmin()} does "
            f"not occur. {remedy}"
        )
    return labels.astype(np.int64)
