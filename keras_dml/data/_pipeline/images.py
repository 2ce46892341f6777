"""Decoding, resizing and cropping images, one at a time and many in parallel.

The one implementation that training, evaluation and serving share. Images are resized
to a square without keeping their aspect ratio and cropped from it, as in the paper's
code. EXIF orientation is ignored.
"""

import re
from collections.abc import Callable
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_dml._checks import checked_integer
from keras_dml.data._pipeline.image_header import checked_file
from keras_dml.data._pipeline.image_header import checked_jpeg

UNREADABLE = "Cannot read this image; repair or remove it:"
"""What stands before the path of an image that can't be decoded, in error messages."""

_READ_AT_ONCE = 256


def preprocess_image(
    encoded: tf.Tensor, image_size: int, resize: int | None = None
) -> tf.Tensor:
    """Decodes one image file and makes the pixels that a model is tested on.

    The image is resized to a square, and its center is cropped. The same operations
    make the batches of `ImageDataset.images` and the pixels in an exported model, where
    this function runs inside the graph.

    Args:
        encoded: scalar string, the bytes of a JPEG, PNG, BMP, GIF or, where TensorFlow
            reads them, WebP file.
        image_size: side of the center crop in pixels, the model's input; at least 1.
        resize: side in pixels of the square before the crop, at least `image_size`;
            None: the paper's proportion, 256 to 224.

    Returns:
        (image_size, image_size, 3) uint8 RGB.

    Raises:
        ValueError: if a side is out of range.
        tf.errors.InvalidArgumentError: if the bytes can't be decoded.

    Example:
        >>> with open(test.paths[0], "rb") as file:
        ...     image = preprocess_image(file.read(), image_size=24)
        >>> image.shape, image.dtype
        (TensorShape([24, 24, 3]), tf.uint8)
    """
    resize = resized_side(image_size, resize)
    return center_crop(resize_image(decode_image(encoded), resize), image_size)


def resized_side(image_size: int, resize: int | None = None) -> int:
    """The side that images are resized to before a crop of `image_size`.

    Args:
        image_size: side of the crop in pixels, at least 1.
        resize: the side wanted, at least `image_size`; None: the paper's proportion,
            256 to 224.

    Raises:
        ValueError: if a side is no integer, or out of range.
    """
    image_size = checked_integer(image_size, "image_size", 1)
    if resize is None:
        return round(image_size * 256 / 224)
    resize = checked_integer(resize, "resize", 1)
    if resize < image_size:
        raise ValueError(
            f"resize must be at least image_size, as the crop is cut from the resized "
            f"image; got resize={resize}, image_size={image_size}."
        )
    return resize


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one image file of any format that TensorFlow reads, as RGB.

    Gray images are repeated over the three channels, an alpha channel is dropped,
    and of an animation the first frame is taken. What no decoder of TensorFlow's can
    be given is refused by its header.

    Args:
        encoded: scalar string, the bytes of the file.

    Returns:
        (height, width, 3) uint8.

    Raises:
        tf.errors.InvalidArgumentError: if the bytes can't be decoded, or the header
            is refused; see `checked_file`.
    """

    def jpeg():
        # The accurate transform is the one that Pillow uses.
        file = checked_jpeg(encoded)
        return tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")

    def other():
        file, palette = checked_file(encoded)
        # Asked for 3 channels, the BMP decoder refuses gray and RGBA files.
        image = tf.io.decode_image(file, expand_animations=False)
        image.set_shape((None, None, None))
        return tf.cond(
            tf.shape(image)[2] < 3,
            lambda: tf.gather(palette, tf.cast(image[..., 0], tf.int32)),
            lambda: image[..., :3],
        )

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, other)
    image.set_shape((None, None, 3))
    return image


def resize_image(image: tf.Tensor, side: int) -> tf.Tensor:
    """Resizes one image to a square, with antialiased bilinear interpolation.

    Args:
        image: (height, width, channels), or a batch of them, (batch, ...).
        side: in pixels.

    Returns:
        (side, side, channels) of the image's dtype, integers rounded; of uint8, within
        one gray level of Pillow's.
    """
    resized = tf.image.resize(image, (side, side), antialias=True)
    if image.dtype.is_integer:
        resized = tf.round(resized)
    return tf.cast(resized, image.dtype)


def crop_image(
    image: tf.Tensor, image_size: int, top: int | tf.Tensor, left: int | tf.Tensor
) -> tf.Tensor:
    """Crops the square whose corner is (top, left) from one image."""
    return tf.slice(image, (top, left, 0), (image_size, image_size, image.shape[2]))


def center_crop(image: tf.Tensor, image_size: int) -> tf.Tensor:
    """Crops the center square of an image, or of each in a batch, (..., channels)."""
    top, left = ((side - image_size) // 2 for side in image.shape[-3:-1])
    return image[..., top : top + image_size, left : left + image_size, :]


def random_crop(image: tf.Tensor, image_size: int, draws: tf.Tensor) -> tf.Tensor:
    """Crops a square at a random place.

    Args:
        image: (height, width, channels).
        image_size: side of the crop in pixels.
        draws: (2,) uniform in [0, 1): row and column.

    Returns:
        (image_size, image_size, channels), of the image's dtype.
    """
    height, width, _ = image.shape
    places = tf.constant((height - image_size + 1, width - image_size + 1), draws.dtype)
    corner = tf.cast(tf.floor(draws * places), tf.int32)
    return crop_image(image, image_size, corner[0], corner[1])


def random_flip(image: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """Flips an image left to right where the draw, uniform in [0, 1), is below 0.5."""
    return tf.cond(draw < 0.5, lambda: tf.reverse(image, [1]), lambda: image)


def read_images(
    batches: tf.data.Dataset,
    images: int,
    batch_size: int,
    paths: np.ndarray,
    resize: int,
    transform: Callable[..., tf.Tensor] = lambda image, *row: image,
) -> tf.data.Dataset:
    """Reads, decodes, resizes and transforms batches of images, in order, on all cores.

    TensorFlow's decoding errors do not say which file failed. So images are numbered,
    those that fail are dropped, and the gap in the numbers tells which one it was. The
    numbers are given and checked a batch at a time, because a call for each image would
    cost a twentieth of the speed.

    Args:
        batches: a data set of tuples (indices, ...): (batch,) int64 indices into
            `paths`, and (batch, ...) tensors that are passed on.
        images: how many images `batches` holds in all.
        batch_size: images in each batch; the last may have fewer.
        paths: (images,) strings.
        resize: side in pixels that images are resized to.
        transform: called with the resized image, (resize, resize, 3) uint8, and its row
            of the batch (index, ...); gives the image to return.

    Returns:
        A data set of (images, indices, ...), one for each of `batches`: the transformed
        images, then what the batch held. Reading from it raises
        `tf.errors.InvalidArgumentError` with the path of a file that can't be decoded:
        the first, or the last of several that follow each other.
    """
    with tf.device("CPU"):
        paths = tf.constant(paths)
    # An end mark, index -1, makes a gap at the very end show.
    end = [tf.zeros([1, *spec.shape[1:]], spec.dtype) for spec in batches.element_spec]
    end = tf.data.Dataset.from_tensors((end[0] - 1, *end[1:]))

    def add_numbers(state, batch):
        first, before = state
        indices = batch[0]
        numbers = first + tf.range(tf.size(indices, tf.int64))
        previous = tf.concat([[before], indices[:-1]], axis=0)
        return (numbers[-1] + 1, indices[-1]), (numbers, previous, batch)

    def read(number, previous, row):
        image = tf.cond(
            row[0] < 0,
            lambda: tf.zeros((resize, resize, 3), tf.uint8),
            lambda: resize_image(decode_image(tf.io.read_file(paths[row[0]])), resize),
        )
        return number, previous, (transform(image, *row), *row)

    def check_numbers(first, element):
        numbers, previous, batch = element
        expected = first + tf.range(tf.size(numbers, tf.int64))
        gap = tf.argmax(numbers != expected)
        check = tf.debugging.Assert(
            tf.reduce_all(numbers == expected), [UNREADABLE, paths[previous[gap]]]
        )
        with tf.control_dependencies([check]):
            return numbers[-1] + 1, batch

    # Images are read in parallel already; operations that split one image over threads
    # as well get in each other's way, and often leave a core idle.
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    # The tuner sleeps for up to as long as a pass took, and its end waits for it.
    options.autotune.enabled = False
    zero = tf.constant(0, tf.int64)
    read_batches = (
        batches.concatenate(end)
        .scan((zero, zero), add_numbers)
        .unbatch()
        .map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .ignore_errors()
        .batch(batch_size)
        .scan(zero, check_numbers)
        .take(-(-images // batch_size))
        .with_options(options)
    )
    if images % batch_size:
        return read_batches.map(_without_end_mark)
    return read_batches


def _without_end_mark(images, indices, *rest):
    count = tf.math.count_nonzero(indices >= 0)
    return tuple(tensor[:count] for tensor in (images, indices, *rest))


def read_in_order(
    paths: np.ndarray,
    resize: int,
    batch_size: int,
    transform: Callable[..., tf.Tensor] = lambda image, *row: image,
) -> tf.data.Dataset:
    """Reads every file once, in batches of (images, indices); see `read_images`."""
    indices = np.arange(len(paths))
    batches = tf.data.Dataset.from_tensor_slices((indices,)).batch(batch_size)
    return read_images(batches, len(paths), batch_size, paths, resize, transform)


def read_all_images(paths: np.ndarray, resize: int) -> Iterator[tuple[int, np.ndarray]]:
    """Reads every file once, with a progress bar.

    Args:
        paths: (images,) strings.
        resize: side in pixels that images are resized to.

    Yields:
        (first, images): the index in `paths` of the first image, and
        (some, resize, resize, 3) uint8, that one and those after it.

    Raises:
        ValueError: if an image can't be decoded; the message has its path.
    """
    print(f"Reading {len(paths):,} images:")
    progress = keras.utils.Progbar(len(paths), unit_name="image")
    try:
        for images, indices in read_in_order(paths, resize, _READ_AT_ONCE):
            yield int(indices[0]), images.numpy()
            progress.update(int(indices[-1]) + 1)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(unreadable_image(error)) from None


def unreadable_image(error: tf.errors.InvalidArgumentError) -> str | None:
    """Finds the path of an unreadable image in an error of TensorFlow's.

    `model.fit` and `predict` raise `tf.errors.InvalidArgumentError` where the batches
    that they read hold an image that can't be decoded, with the path among much else.

    Args:
        error: the error.

    Returns:
        One sentence that ends with the path; None if the error is about something else.

    Example:
        >>> import tensorflow as tf
        >>> with open("broken.jpg", "w") as file:
        ...     size = file.write("not an image")
        >>> broken = ImageDataset(["broken.jpg"], [0], ["a class"])
        >>> try:
        ...     images = list(broken.images(28))
        ... except tf.errors.InvalidArgumentError as error:
        ...     print(unreadable_image(error))
        Cannot read this image; repair or remove it: broken.jpg
    """
    _, found, rest = error.message.partition(UNREADABLE)
    if not found:
        return None
    path = rest.split("\n")[0].removeprefix("] [").removesuffix("]")
    return f"{UNREADABLE} {unescaped(path)}"


def unescaped(text: str) -> str:
    """Undoes what TensorFlow does to quotes and backslashes in failed assertions."""
    return re.sub(r"\\(['\"\\])", r"\1", text)
