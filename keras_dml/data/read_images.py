"""Reading image files in parallel, with an unreadable one named."""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_dml.data import image_ops

_UNREADABLE = "Cannot read this image; mend or remove it:"


def read_images(rows: tf.data.Dataset, paths, resize: int) -> tf.data.Dataset:
    """Decodes and resizes files, in order, on all cores.

    TensorFlow's decoding errors do not say which file failed. So failing elements
    are dropped, and the gap that one leaves in the numbering names it.

    Args:
        rows: a data set of tuples (index, ...): a scalar int64, the place of an image
            in `paths`, and whatever is to stay beside it.
        paths: (images,) strings.
        resize: side in pixels that images are resized to.

    Returns:
        A data set of (image, index, ...), one for each of `rows`: (resize, resize, 3)
        uint8 before what the row held. Reading from it raises
        `tf.errors.InvalidArgumentError` at the first file that can't be decoded, with
        its path or, of several in a row, the last one's.
    """
    with tf.device("CPU"):
        paths = tf.constant(paths)
    # An end mark, index -1, lets a gap at the very end be seen.
    end = tuple(tf.zeros(spec.shape, spec.dtype) for spec in rows.element_spec)
    end = tf.data.Dataset.from_tensors((end[0] - 1, *end[1:]))

    def number(previous, element):
        position, row = element
        return row[0], (position, previous, row)

    def read(position, previous, row):
        image = tf.cond(
            row[0] < 0,
            lambda: tf.zeros((resize, resize, 3), tf.uint8),
            lambda: image_ops.resize_image(
                image_ops.decode_image(tf.io.read_file(paths[row[0]])), resize
            ),
        )
        return position, previous, (image, *row)

    def name_gap(expected, element):
        position, previous, row = element
        whole = tf.debugging.Assert(
            position == expected,
            [_UNREADABLE, paths[previous]],
        )
        with tf.control_dependencies([whole]):
            return expected + 1, row

    return (
        rows.concatenate(end)
        .enumerate()
        .scan(tf.constant(-1, tf.int64), number)
        .map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .ignore_errors()
        .scan(tf.constant(0, tf.int64), name_gap)
        .take_while(lambda image, index, *rest: index >= 0)
    )


def read_all_images(paths: np.ndarray, resize: int) -> Iterator[tuple[int, np.ndarray]]:
    """Reads every file once, with a progress bar.

    Args:
        paths: (images,) strings.
        resize: side in pixels that images are resized to.

    Yields:
        (first, images): the place in `paths` of the first image, and
        (some, resize, resize, 3) uint8, that one and those after it.

    Raises:
        ValueError: if an image can't be decoded; the message has its path.
    """
    print(f"Reading {len(paths):,} images:")
    progress = keras.utils.Progbar(len(paths), unit_name="image")
    rows = tf.data.Dataset.from_tensor_slices((np.arange(len(paths)),))
    try:
        for images, index in read_images(rows, paths, resize).batch(256):
            yield int(index[0]), images.numpy()
            progress.update(int(index[-1]) + 1)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(unreadable_image(error)) from None


def unreadable_image(error: tf.errors.InvalidArgumentError) -> str | None:
    """The sentence about an unreadable image in TensorFlow's error; None if none is."""
    _, found, rest = error.message.partition(_UNREADABLE)
    if not found:
        return None
    path = rest.split("\n")[0].removeprefix("] [").removesuffix("]")
    return f"{_UNREADABLE} {path}"
