"""Pixels: the one implementation that training, evaluation and serving share.

Images are resized to a square without keeping their aspect and cropped from it, as
in the paper's code. EXIF orientation is left alone.
"""

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

    Grey images are repeated over the three channels, an alpha channel is dropped,
    and of an animation the first frame is taken. BMP files must not have a palette of
    colours: TensorFlow takes their indices for grey.

    Args:
        encoded: scalar string, the bytes of the file.

    Returns:
        (height, width, 3) uint8.
    """

    def jpeg():
        # The accurate transform is the one that Pillow uses.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    def other():
        # Asked for 3 channels, the BMP decoder refuses grey and RGBA files.
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


def crop_image(
    image: tf.Tensor, image_size: int, top: tf.Tensor, left: tf.Tensor
) -> tf.Tensor:
    """Cuts the (image_size, image_size, 3) square whose corner is (top, left)."""
    return tf.slice(image, (top, left, 0), (image_size, image_size, 3))


def centre_crop(image: tf.Tensor, image_size: int) -> tf.Tensor:
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
