"""Data sets of any kind as the batches that a model predicts, and their labels."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_dml._checks import checked_integer
from keras_dml._checks import image_side
from keras_dml._ops import check_can_predict
from keras_dml._ops import number_of_shards
from keras_dml._worker_parts import rows_as_text
from keras_dml._worker_parts import with_worker_parts


def labeled_batches(
    embedder: keras.Model, dataset: Any, resize: int | None, batch_size: int
) -> tuple[Any, Callable[[], tuple[np.ndarray, np.ndarray] | None]]:
    """Returns batches for `embedder.predict`, and a function that gives what they are.

    Args:
        embedder: the model.
        dataset: an `ImageDataset`, arrays (x, labels), what `LoadableDataset`
            describes, or batches of (x, labels).
        resize: side that images are resized to before the crop, or None.
        batch_size: rows in a batch, but for batches given.

    Returns:
        (batches, rows_and_labels): a `tf.data.Dataset` of x, padded to what the devices
        divide, that can be read again and again, as making one keeps memory; and a
        function that gives (n,) integers, the rows that are no padding, and their (n,)
        labels; of batches those of the last pass, None before it.

    Raises:
        ValueError: if the data set is none of these, or not whole, or endless, or it
            doesn't fit the model, or the model is none, or batch_size out of range.
            Of batches the first is looked at; a later one with more or fewer labels
            than rows raises `tf.errors.InvalidArgumentError` while it is read.
    """
    if not isinstance(embedder, keras.Model):
        raise ValueError(
            f"embedder must be a keras.Model from images to embeddings; got "
            f"{embedder!r}."
        )
    batch_size = checked_integer(batch_size, "batch_size", 1)
    check_can_predict()
    shards = number_of_shards(embedder)
    batch_size = -(-batch_size // shards) * shards
    import tensorflow as tf  # Evaluation alone does without it on other backends.

    from keras_dml import data

    make_part: Callable[..., Any] | None = None
    if isinstance(dataset, tf.data.Dataset | keras.utils.Sequence):
        if resize is not None:
            raise ValueError(
                f"resize={resize} is not for batches: resize their images where they "
                "are made."
            )
        batches, rows_and_labels = _record_labels(dataset)
    else:
        is_files = isinstance(dataset, data.ImageDataset)
        crops = is_files or resize is not None

        def in_batches(rows_to_read, size):
            return data.ordered_batches(
                rows_to_read,
                image_size=image_side(embedder) if crops else None,
                resize=resize,
                batch_size=size,
            ).map(lambda x, labels: x)

        batches = in_batches(dataset, batch_size)
        given = dataset[1] if isinstance(dataset, tuple) else dataset.labels

        def in_part(part):
            rows = _rows_of_part(part, len(given), batch_size)
            size = batch_size // part.workers
            return part.by_replica(in_batches(_picked(dataset, rows), size), size)

        make_part = in_part

        def rows_and_labels():
            return np.arange(len(given)), np.asarray(given)

    _check_fits(embedder, batches.element_spec)
    output = getattr(embedder, "output_shape", None)
    if isinstance(output, tuple) and len(output) != 2:
        raise ValueError(
            f"embedder must give embeddings, (batch, dim); {embedder.name!r} gives "
            f"{output}. keras_dml.models.embedding_model pools features."
        )
    if shards > 1:
        batches = batches.rebatch(batch_size)
        batches = batches.map(functools.partial(_padded, shards=shards))
    if make_part is not None:
        batches = with_worker_parts(
            batches,
            make_part,
            lambda: rows_as_text(given, getattr(dataset, "paths", ())),
        )
    return batches, rows_and_labels


def _rows_of_part(part, count, batch_size):
    """The rows of whole batches that a worker reads; the last row fills the last."""
    batches = np.arange(-(-count // batch_size) * batch_size).reshape(-1, batch_size)
    rows = np.concatenate([part.of(batch) for batch in batches])
    return np.minimum(rows, count - 1)


def _picked(dataset, rows):
    """Gives some rows of a data set, with labels that say nothing."""
    from keras_dml import data

    nothing = np.zeros(len(rows), np.int64)
    if isinstance(dataset, data.ImageDataset):
        return data.ImageDataset(dataset.paths[rows], nothing, ("image",))
    if not isinstance(dataset, tuple):
        return _Picked(nothing, lambda some: dataset.load(rows[some]))
    x = np.asarray(dataset[0])
    return _Picked(nothing, lambda some: x[rows[some]])


@dataclasses.dataclass(frozen=True)
class _Picked:
    """A `keras_dml.data.LoadableDataset`."""

    labels: np.ndarray
    load: Callable[[np.ndarray], Any]


def _padded(images, shards):
    """Repeats the first image of a batch until the shards divide it."""
    import tensorflow as tf

    missing = -tf.shape(images)[0] % shards
    return tf.concat([images, tf.repeat(images[:1], missing, axis=0)], axis=0)


def _record_labels(dataset):
    import tensorflow as tf

    spec, count = _checked_batches(dataset)
    of_last_pass = None

    def read():
        nonlocal of_last_pass
        # Each pass has a list of its own, as one that was left may still be reading.
        of_last_pass = of_this_pass = []
        batches = (
            dataset
            if isinstance(dataset, tf.data.Dataset)
            else (dataset[batch] for batch in range(count))
        )
        for number, (x, labels) in enumerate(batches):
            labels = np.asarray(labels)
            _check_lengths(number, len(x), len(labels))
            of_this_pass.append(labels)
            # Convolutions fail on an empty batch, and Keras counts on the batch.
            yield (
                x
                if len(labels)
                else np.zeros((1, *x.shape[1:]), spec.dtype.as_numpy_dtype)
            )

    def rows_and_labels():
        if of_last_pass is None:
            return None
        is_image = np.repeat(
            [len(labels) > 0 for labels in of_last_pass],
            [max(len(labels), 1) for labels in of_last_pass],
        )
        if not is_image.any():
            raise ValueError("dataset holds no images.")
        return np.flatnonzero(is_image), np.concatenate(of_last_pass)

    batches = tf.data.Dataset.from_generator(read, output_signature=spec)
    if count is not None:
        batches = batches.apply(tf.data.experimental.assert_cardinality(count))
    return batches.prefetch(tf.data.AUTOTUNE), rows_and_labels


def _checked_batches(dataset):
    """Gives the spec of x, and how many batches there are, None where unknown."""
    import tensorflow as tf

    if isinstance(dataset, tf.data.Dataset):
        element, count = dataset.element_spec, int(dataset.cardinality())
        if count == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "dataset must end, as each of its images is measured once; this "
                "tf.data.Dataset is infinite. Leave out repeat()."
            )
        count = None if count == tf.data.UNKNOWN_CARDINALITY else count
    else:
        try:
            count = len(dataset)
        except (TypeError, AttributeError, NotImplementedError):
            raise ValueError(
                "dataset must end, as each of its images is measured once; this "
                f"{type(dataset).__name__} has no length. Give it `__len__`."
            ) from None
        element = dataset[0] if count else None
    if count == 0:
        raise ValueError("dataset holds no batches.")
    if not isinstance(element, tuple) or len(element) != 2:
        raise ValueError(
            "dataset must give pairs (x, labels) of batches; an element is "
            f"{_described(element)}."
        )
    if not isinstance(dataset, tf.data.Dataset):
        x, labels = map(np.asarray, element)
        element = tf.TensorSpec((None, *x.shape[1:]), x.dtype), labels
        if x.ndim and labels.ndim:
            _check_lengths(0, len(x), len(labels))
    x, labels = element
    if not isinstance(x, tf.TensorSpec):
        raise ValueError(
            f"dataset must give one tensor as x; it gives {_described(x)}."
        )
    shape = tf.TensorShape(labels.shape)
    rank = 1 if shape.rank is None else shape.rank
    if rank == 0:
        raise ValueError(
            "dataset must give batches; it gives single images. Use batch(100)."
        )
    if rank > 1:
        remedy = (
            "a column. Give labels[:, 0]."
            if rank == 2 and shape[1] == 1
            else "as of one-hot labels. Map them with tf.argmax(labels, axis=1)."
        )
        raise ValueError(
            "dataset must give one label for each image; got labels of shape "
            f"{tuple(shape)}, {remedy}"
        )
    dtype = np.dtype(getattr(labels.dtype, "as_numpy_dtype", labels.dtype))
    if dtype.kind not in "iuUSTO":
        raise ValueError(
            "dataset must give labels that are integers, or strings; got dtype "
            f'{dtype}. Map whole numbers with tf.cast(labels, "int64").'
        )
    return x, count


def _check_lengths(number, rows, labels):
    """Raises where a batch has more or fewer labels than rows."""
    if rows != labels:
        raise ValueError(
            f"dataset must give one label for each image; batch {number} has "
            f"x of {rows:,} rows and {labels:,} labels."
        )


def _described(element):
    if isinstance(element, tuple | list | dict):
        return f"a {type(element).__name__} of {len(element)}"
    return f"a {type(element).__name__}"


def _check_fits(embedder, spec):
    """Raises where a model doesn't take batches of a spec."""
    taken = getattr(embedder, "input_shape", None)
    if not isinstance(taken, tuple) or spec.shape.rank is None:
        return
    given = tuple(spec.shape)
    fits = len(given) == len(taken) and all(
        side is None or wanted is None or side == wanted
        for side, wanted in zip(given[1:], taken[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"dataset holds rows of shape {given[1:]}, and {embedder.name!r} takes "
            f"{taken[1:]}. Pass images with resize= to have them resized and cropped, "
            "or the model that was made for them."
        )
