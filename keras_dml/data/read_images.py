"""Reading image files in parallel, with an unreadable one named."""

import tensorflow as tf

from keras_dml.data import image_ops


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
        `tf.errors.InvalidArgumentError` with the path of the first file that can't be
        decoded.
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
            ["Cannot read this image; mend or remove it:", paths[previous]],
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
