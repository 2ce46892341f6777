"""Finding unreadable images before they end a long run."""

import keras
import numpy as np
import tensorflow as tf

from keras_dml.data._pipeline.images import UNREADABLE
from keras_dml.data._pipeline.images import decode_image
from keras_dml.data.image_dataset import ImageDataset

_MOST_NAMED = 20
_READ_AT_ONCE = 256


def check_images(*datasets: ImageDataset) -> None:
    """Decodes every image once, with a progress bar.

    Args:
        datasets: one or more, checked together.

    Raises:
        ValueError: if images can't be decoded; the message has the paths of the first
            20 and how many there are. Or if no data set is given, or another kind.

    Example:
        >>> check_images(train, test)
        Reading 48 images:
        ...
    """
    if not datasets:
        raise ValueError("check_images takes one ImageDataset or more; got none.")
    for dataset in datasets:
        if not isinstance(dataset, ImageDataset):
            raise ValueError(
                f"check_images takes ImageDatasets; got {dataset!r}. Make one of a "
                "folder with keras_dml.data.image_folder."
            )
    paths = np.concatenate([dataset.paths for dataset in datasets])
    print(f"Reading {len(paths):,} images:")
    progress = keras.utils.Progbar(len(paths), unit_name="image")
    readable = np.zeros(len(paths), bool)
    for indices in _readable_images(paths).as_numpy_iterator():
        readable[indices] = True
        progress.update(np.count_nonzero(readable), finalize=False)
    progress.update(len(paths), finalize=True)
    unreadable = paths[~readable]
    if len(unreadable) == 1:
        raise ValueError(f"{UNREADABLE} {unreadable[0]}")
    if len(unreadable):
        named = "\n".join(unreadable[:_MOST_NAMED])
        rest = len(unreadable) - _MOST_NAMED
        raise ValueError(
            f"Cannot read {len(unreadable):,} of {len(paths):,} images; repair or "
            f"remove them:\n{named}" + (f"\nand {rest:,} more" if rest > 0 else "")
        )


def _readable_images(paths):
    """Batches of the indices into `paths` of images that can be decoded."""
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
        tf.data.Dataset.range(len(paths))
        .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .ignore_errors()
        .map(lambda index, size: index)
        .batch(_READ_AT_ONCE)
        .with_options(options)
    )
