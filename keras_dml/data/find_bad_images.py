"""Finding unreadable images before they end a long run."""

import os
import re
import stat

import keras
import numpy as np
import tensorflow as tf

from keras_dml.data._pipeline.images import decode_image
from keras_dml.data._pipeline.images import unescaped
from keras_dml.data.image_dataset import ImageDataset

_READ_AT_ONCE = 256


def find_bad_images(*datasets: ImageDataset) -> dict[str, str]:
    """Decodes every image once, with a progress bar, and lists those that can't be.

    Args:
        datasets: one or more, read together.

    Returns:
        {path: reason}, in the order of the data sets; empty if all can be read.
        `ImageDataset.without` and `ImageDataset.with_replaced` take it.

    Raises:
        ValueError: if no data set is given, or another kind.

    Example:
        >>> with open("broken.png", "w") as file:
        ...     size = file.write("not an image")
        >>> some = ImageDataset([*test.paths[:5], "broken.png"], [0] * 6, ["a class"])
        >>> bad = find_bad_images(some)
        Reading 6 images:
        ...
        >>> bad
        {'broken.png': 'it is no JPEG, PNG, BMP, GIF or WebP file'}
        >>> len(some.without(bad))
        5
    """
    if not datasets:
        raise ValueError("give one ImageDataset or more; got none.")
    for dataset in datasets:
        if not isinstance(dataset, ImageDataset):
            raise ValueError(
                f"only an ImageDataset has image files to read; got {dataset!r}. Make "
                "one of a folder with keras_dml.data.image_folder."
            )
    paths = np.concatenate([dataset.paths for dataset in datasets])
    print(f"Reading {len(paths):,} images:")
    progress = keras.utils.Progbar(len(paths), unit_name="image")
    readable = np.zeros(len(paths), bool)
    regular = np.array([not _is_special(path) for path in paths])
    for indices in _readable_images(paths, regular).as_numpy_iterator():
        readable[indices] = True
        progress.update(np.count_nonzero(readable), finalize=False)
    progress.update(len(paths), finalize=True)
    return {str(path): _reason(path) for path in paths[~readable]}


def _is_special(path):
    """Whether a path leads to no file, such as a pipe, whose end may never come."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # It is missing, or a place that TensorFlow alone reads.
        return False


def _readable_images(paths, regular):
    """Batches of the indices into `paths` of regular files that can be decoded."""
    with tf.device("CPU"):
        tensor = tf.constant(paths)

    def decode(index):
        image = decode_image(tf.io.read_file(tensor[index]))
        # Nothing is decoded unless something of it is asked for.
        return index, tf.size(image)

    # Images are read in parallel already; see read_images.
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    options.deterministic = False
    return (
        tf.data.Dataset.from_tensor_slices(np.flatnonzero(regular))
        .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .ignore_errors()
        .map(lambda index, size: index)
        .batch(_READ_AT_ONCE)
        .with_options(options)
    )


def _reason(path):
    """Says why an image can't be decoded, in a few words."""
    if _is_special(path) and not os.path.isdir(path):
        return "it is no regular file"
    try:
        with open(path, "rb") as file:
            encoded = file.read()
    except OSError as error:
        return error.strerror or str(error)
    if not encoded:
        return "the file is empty"
    try:
        decode_image(tf.constant(encoded))
    except tf.errors.OpError as error:
        refused = re.search(r"assertion failed: \[[^]]*\] \[([^]]*)\]", error.message)
        if refused:
            return unescaped(refused[1])
        return re.sub(r"\{\{.*?\}\} *| *\[Op:.*", "", error.message.splitlines()[0])
    return "it could not be read before, and can be now"
