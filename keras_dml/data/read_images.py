"""Reading image files in parallel, with an unreadable one named."""

from collections.abc import Callable
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_dml.data import image_ops

_UNREADABLE = "Cannot read this image; mend or remove it:"


def read_images(
    batches: tf.data.Dataset,
    images: int,
    batch_size: int,
    paths: np.ndarray,
    resize: int,
    finish: Callable[..., tf.Tensor] = lambda image, *row: image,
) -> tf.data.Dataset:
    """Decodes, resizes and finishes batches of images, in order, on all cores.

    TensorFlow's decoding errors do not say which file failed. So failing images are
    dropped, and the gap that one leaves in the numbering names it. The numbering is
    done and checked a batch at a time, because a call an image would cost a twentieth
    of the speed.

    Args:
        batches: a data set of tuples (indices, ...): (batch,) int64, places of images
            in `paths`, and (batch, ...) tensors that are to stay beside them.
        images: how many images `batches` holds in all.
        batch_size: images in each batch; the last may have fewer.
        paths: (images,) strings.
        resize: side in pixels that images are resized to.
        finish: makes the image to give from the resized one, (resize, resize, 3)
            uint8, and its row of the batch.

    Returns:
        A data set of (images, indices, ...), one for each of `batches`: the finished
        images before what the batch held. Reading from it raises
        `tf.errors.InvalidArgumentError` with the path of a file that can't be decoded:
        the first, or the last of several that follow each other.
    """
    with tf.device("CPU"):
        paths = tf.constant(paths)
    # An end mark, index -1, lets a gap at the very end be seen.
    end = [tf.zeros([1, *spec.shape[1:]], spec.dtype) for spec in batches.element_spec]
    end = tf.data.Dataset.from_tensors((end[0] - 1, *end[1:]))

    def number(state, batch):
        first, before = state
        indices = batch[0]
        positions = first + tf.range(tf.size(indices, tf.int64))
        previous = tf.concat([[before], indices[:-1]], axis=0)
        return (positions[-1] + 1, indices[-1]), (positions, previous, batch)

    def read(position, previous, row):
        image = tf.cond(
            row[0] < 0,
            lambda: tf.zeros((resize, resize, 3), tf.uint8),
            lambda: image_ops.resize_image(
                image_ops.decode_image(tf.io.read_file(paths[row[0]])), resize
            ),
        )
        return position, previous, (finish(image, *row), *row)

    def name_gap(first, element):
        positions, previous, batch = element
        expected = first + tf.range(tf.size(positions, tf.int64))
        gap = tf.argmax(positions != expected)
        whole = tf.debugging.Assert(
            tf.reduce_all(positions == expected), [_UNREADABLE, paths[previous[gap]]]
        )
        with tf.control_dependencies([whole]):
            return positions[-1] + 1, batch

    # Images are read in parallel already; operations that split one image over threads
    # as well get in each other's way, and often leave a core idle.
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    # The tuner sleeps for up to as long as a pass took, and its end waits for it.
    options.autotune.enabled = False
    none = tf.constant(0, tf.int64)
    read_batches = (
        batches.concatenate(end)
        .scan((none, none), number)
        .unbatch()
        .map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .ignore_errors()
        .batch(batch_size)
        .scan(none, name_gap)
        .take(-(-images // batch_size))
        .with_options(options)
    )
    if images % batch_size:
        return read_batches.map(_without_end)
    return read_batches


def _without_end(images, indices, *rest):
    some = tf.math.count_nonzero(indices >= 0)
    return tuple(tensor[:some] for tensor in (images, indices, *rest))


def read_in_order(
    paths: np.ndarray,
    resize: int,
    batch_size: int,
    finish: Callable[..., tf.Tensor] = lambda image, *row: image,
) -> tf.data.Dataset:
    """Reads every file once, in batches of (images, indices); see `read_images`."""
    indices = np.arange(len(paths))
    batches = tf.data.Dataset.from_tensor_slices((indices,)).batch(batch_size)
    return read_images(batches, len(paths), batch_size, paths, resize, finish)


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
    try:
        for images, indices in read_in_order(paths, resize, 256):
            yield int(indices[0]), images.numpy()
            progress.update(int(indices[-1]) + 1)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(unreadable_image(error)) from None


def unreadable_image(error: tf.errors.InvalidArgumentError) -> str | None:
    """The sentence about an unreadable image in TensorFlow's error; None if none is."""
    _, found, rest = error.message.partition(_UNREADABLE)
    if not found:
        return None
    path = rest.split("\n")[0].removeprefix("] [").removesuffix("]")
    return f"{_UNREADABLE} {path}"
