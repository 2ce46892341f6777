"""Pixels: the one implementation that training, evaluation and serving share.

Images are resized to a square without keeping their aspect and cropped from it, as
in the paper's code. EXIF orientation is left alone.
"""

from collections.abc import Callable
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf


def resize_for(image_size: int, resize: int | None = None) -> int:
    """The side that images are resized to before a crop of `image_size`.

    Args:
        image_size: side of the crop in pixels, at least 1.
        resize: the side wanted, at least `image_size`; None for the paper's
            proportion, 256 to 224.

    Raises:
        ValueError: if a side is out of range.
    """
    if image_size < 1:
        raise ValueError(f"image_size must be at least 1 pixel; got {image_size}.")
    if resize is None:
        return round(image_size * 256 / 224)
    if resize < image_size:
        raise ValueError(
            f"resize must be at least image_size, as the crop is cut from the resized "
            f"image; got resize={resize}, image_size={image_size}."
        )
    return resize


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one image file of any format that TensorFlow reads, as RGB.

    Gray images are repeated over the three channels, an alpha channel is dropped,
    and of an animation the first frame is taken. BMP files must not have a palette of
    colors: TensorFlow takes their indices for gray.

    Args:
        encoded: scalar string, the bytes of the file.

    Returns:
        (height, width, 3) uint8.
    """

    def jpeg():
        # The accurate transform is the one that Pillow uses.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    def other():
        # Asked for 3 channels, the BMP decoder refuses gray and RGBA files.
        image = tf.io.decode_image(encoded, expand_animations=False)
        image.set_shape((None, None, None))
        is_grey = tf.shape(image)[2] < 3
        return tf.gather(image, tf.where(is_grey, [0, 0, 0], [0, 1, 2]), axis=2)

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, other)
    image.set_shape((None, None, 3))
    return image


def resize_image(image: tf.Tensor, side: int) -> tf.Tensor:
    """Resizes one image to a square, with antialiased bilinear interpolation.

    Args:
        image: (height, width, 3) uint8.
        side: in pixels.

    Returns:
        (side, side, 3) uint8, rounded.
    """
    resized = tf.image.resize(image, (side, side), antialias=True)
    return tf.cast(tf.round(resized), tf.uint8)


def preprocess_image(
    encoded: tf.Tensor, image_size: int, resize: int | None = None
) -> tf.Tensor:
    """Decodes an image file and makes the pixels that a model is tested on.

    Args:
        encoded: scalar string, the bytes of a JPEG, PNG, BMP, GIF or WebP file.
        image_size: side of the square that is cut out of the middle, in pixels.
        resize: side that the image is resized to before, at least `image_size`; None
            for the paper's proportion, 256 to 224.

    Returns:
        (image_size, image_size, 3) uint8 RGB.

    Raises:
        ValueError: if a side is out of range.
        tf.errors.InvalidArgumentError: if the bytes can't be decoded.
    """
    resize = resize_for(image_size, resize)
    return center_crop(resize_image(decode_image(encoded), resize), image_size)


def crop_image(
    image: tf.Tensor, image_size: int, top: tf.Tensor, left: tf.Tensor
) -> tf.Tensor:
    """Cuts the (image_size, image_size, 3) square whose corner is (top, left)."""
    return tf.slice(image, (top, left, 0), (image_size, image_size, 3))


def center_crop(image: tf.Tensor, image_size: int) -> tf.Tensor:
    """Cuts the middle (image_size, image_size, 3) of a square image."""
    margin = (image.shape[0] - image_size) // 2
    return crop_image(image, image_size, margin, margin)


def random_crop_and_flip(
    image: tf.Tensor, image_size: int, draws: tf.Tensor, flip: bool
) -> tf.Tensor:
    """Cuts a square where the draws say, and mirrors half of the images.

    Args:
        image: (side, side, 3).
        image_size: side of the crop in pixels.
        draws: (3,) uniform in [0, 1): row, column, and a flip where below 0.5.
        flip: whether images may be mirrored left to right.

    Returns:
        (image_size, image_size, 3), of the image's dtype.
    """
    places = tf.cast(image.shape[0] - image_size + 1, draws.dtype)
    corner = tf.cast(tf.floor(draws[:2] * places), tf.int32)
    cropped = crop_image(image, image_size, corner[0], corner[1])
    if not flip:
        return cropped
    return tf.cond(draws[2] < 0.5, lambda: tf.reverse(cropped, [1]), lambda: cropped)


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
            lambda: resize_image(decode_image(tf.io.read_file(paths[row[0]])), resize),
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
