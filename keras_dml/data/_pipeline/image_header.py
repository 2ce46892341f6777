"""What the header of an image file says, read in the graph before any decoder runs.

TensorFlow's decoders believe the header: they allocate what it asks for, a GIF's for
every frame, and of an animated WebP without alpha they write more than they allocated,
which ends the process. So a file reaches its decoder only when its header has been
looked at. An exported model has these operations too.

Every pipeline takes time to optimize its graph, so there are few operations here: one
product gives all numbers of all formats, and nothing but a GIF needs a branch.
"""

import numpy as np
import tensorflow as tf

MOST_PIXELS = 2 * (1024**3 // 4 // 3)
"""Pixels that an image may have, 178,956,970: the number above which Pillow refuses a
file as a decompression bomb, twice `PIL.Image.MAX_IMAGE_PIXELS`."""

_TOO_LARGE = f"it has more than {MOST_PIXELS:,} pixels"
_UNKNOWN = "it is no JPEG, PNG, BMP, GIF or WebP file"
_ANIMATED = (
    "it is an animated WebP without alpha, at which TensorFlow's decoder fails; save "
    "one frame of it"
)
_BMP = (
    "it is a BMP that TensorFlow's decoder can't read: it reads 8, 24 or 32 bits a "
    "pixel, without compression, and no OS/2 header; save it as PNG"
)
_NO_FRAME = "it is a GIF without a frame"
_PART = "it is a GIF whose first frame is only a part of it; save it as PNG"

_HEADER_BYTES = 66

# {format: what its files begin with, "?" for any byte}.
_BEGINNINGS = {
    "PNG": b"\x89PNG\r\n\x1a\n",
    "GIF": b"GIF8",
    "BMP": b"BM",
    "WebP, extended": b"RIFF????WEBPVP8X",
    "WebP, lossless": b"RIFF????WEBPVP8L",
    "WebP": b"RIFF????WEBP",
}
# {number: its first byte, and how many; those of PNG have the highest byte first}.
_NUMBERS = {
    "PNG width": (16, -4),
    "PNG height": (20, -4),
    "BMP pixels": (10, 4),
    "BMP header": (14, 4),
    "BMP width": (18, 4),
    "BMP height": (22, 4),
    "BMP bits": (28, 2),
    "BMP compression": (30, 4),
    "BMP colors": (46, 4),
    "BMP red": (54, 4),
    "BMP green": (58, 4),
    "BMP blue": (62, 4),
    "WebP flags": (20, 1),
    "WebP, extended width": (24, 3),
    "WebP, extended height": (27, 3),
    "WebP, lossless size": (21, 4),
    "WebP width": (26, 2),
    "WebP height": (28, 2),
}
_SUB_BLOCKS = 2**17  # of up to 255 bytes, that a GIF's first frame may have


def _place_values(numbers, octets):
    values = np.zeros((len(numbers), octets), np.int64)
    for row, (first, count) in zip(values, numbers, strict=True):
        places = 256 ** np.arange(abs(count))
        row[first : first + abs(count)] = places if count > 0 else places[::-1]
    return values


_HEADER_VALUES = _place_values(_NUMBERS.values(), _HEADER_BYTES)
_BEGIN = np.array([list(text.ljust(16, b"?")) for text in _BEGINNINGS.values()])
_ANY = np.equal(_BEGIN, ord("?"))
_FRAME_VALUES = _place_values([(1, 2), (3, 2), (5, 2), (7, 2)], 9)
_SCREEN_VALUES = _place_values([(6, 2), (8, 2)], 10)
_GRAY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def checked_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Returns a JPEG file, once its header is known to be readable and not too large.

    Args:
        encoded: scalar string, the bytes of the file.

    Returns:
        The same bytes.

    Raises:
        tf.errors.InvalidArgumentError: if it has more than `MOST_PIXELS` pixels, or no
            readable header.
    """
    size = tf.image.extract_jpeg_shape(encoded)[:2]
    return _unless({_TOO_LARGE: _too_large(size)}, encoded)


# Traced once, and a single operation in the graph that calls it, which JPEGs skip.
@tf.function(
    input_signature=[tf.TensorSpec((), tf.string)],
    autograph=False,
    experimental_attributes={"_noinline": True},
)
def checked_file(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what the decoder may be given of a PNG, GIF, BMP or WebP file.

    Args:
        encoded: scalar string, the bytes of the file.

    Returns:
        file: the bytes; of a GIF its first frame alone, without transparency.
        palette: (256, 3) uint8, the colors that decoded values of one channel stand
            for: the file's palette for BMP files of 8 bits, else the gray levels.

    Raises:
        tf.errors.InvalidArgumentError: if the file is of another format, has more than
            `MOST_PIXELS` pixels, or is one that TensorFlow's decoders can't be given
            or would show otherwise than Pillow: an animated WebP without alpha, a GIF
            whose first frame is only a part of it, a BMP that is compressed, has other
            than 8, 24 or 32 bits a pixel, or the header of OS/2.
    """
    octets = tf.io.decode_raw(encoded, tf.uint8, fixed_length=_HEADER_BYTES)
    header = tf.cast(octets, tf.int64)
    begins = tf.reduce_all((header[:16] == _BEGIN) | _ANY, axis=1)
    is_format = dict(zip(_BEGINNINGS, tf.unstack(begins), strict=True))
    values = tf.unstack(tf.linalg.matvec(_HEADER_VALUES, header))
    number = dict(zip(_NUMBERS, values, strict=True))
    bmp_height, lossless = number["BMP height"], number["WebP, lossless size"]
    sizes = [
        (number["PNG width"], number["PNG height"]),
        (0, 0),  # GIF: its first frame's is looked at below
        # A negative height means that the top row comes first.
        (number["BMP width"], tf.minimum(bmp_height, 2**32 - bmp_height)),
        (number["WebP, extended width"] + 1, number["WebP, extended height"] + 1),
        (lossless % 2**14 + 1, lossless // 2**14 % 2**14 + 1),
        (number["WebP width"] % 2**14, number["WebP height"] % 2**14),
    ]
    size = tf.stack(sizes)[tf.argmax(tf.cast(begins, tf.int32))]
    animated_or_alpha = tf.bitwise.bitwise_and(number["WebP flags"], 0x02 + 0x10)
    file = _unless(
        {
            _UNKNOWN: ~tf.reduce_any(begins),
            _TOO_LARGE: _too_large(size),
            _ANIMATED: is_format["WebP, extended"] & (animated_or_alpha == 0x02),
            _BMP: is_format["BMP"] & ~_is_readable_bmp(number),
        },
        encoded,
    )
    has_palette = is_format["BMP"] & (number["BMP bits"] == 8)
    palette = tf.where(has_palette, _bmp_palette(encoded, number), _GRAY)
    file = tf.cond(is_format["GIF"], lambda: _first_gif_frame(file), lambda: file)
    return file, palette


def _too_large(size):
    # As floats, since the product of what a file claims can overflow.
    return tf.reduce_prod(tf.cast(size, tf.float64)) > MOST_PIXELS


def _unless(refusals, encoded):
    """Returns the bytes, for what must not run before the refusals are known.

    Args:
        refusals: {reason: scalar bool, whether it holds}.
        encoded: scalar string.
    """
    refused = tf.stack(list(refusals.values()))
    reason = tf.constant(list(refusals))[tf.argmax(tf.cast(refused, tf.int32))]
    # tf.debugging.Assert would add a branch.
    check = tf.raw_ops.Assert(
        condition=~tf.reduce_any(refused), data=["Cannot read this image:", reason]
    )
    # None where this runs eagerly, and has raised.
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(encoded)


def _is_readable_bmp(number):
    bits, compression = number["BMP bits"], number["BMP compression"]
    # Compression 3 means that masks say which bits are red, green and blue.
    masked = (
        (compression == 3)
        & (bits == 32)
        & (number["BMP red"] == 0xFF0000)
        & (number["BMP green"] == 0xFF00)
        & (number["BMP blue"] == 0xFF)
    )
    plain = (compression == 0) & ((bits == 8) | (bits == 24) | (bits == 32))
    return (plain | masked) & (number["BMP header"] >= 40)


def _bmp_palette(encoded, number):
    """The colors of a BMP of 8 bits; those that it has not are black, as in Pillow."""
    first = 14 + number["BMP header"]
    colors = tf.minimum((number["BMP pixels"] - first) // 4, 256)
    named = number["BMP colors"]
    colors = tf.where(named > 0, tf.minimum(named, colors), colors)
    first = tf.minimum(first, tf.cast(tf.strings.length(encoded), tf.int64))
    palette = tf.strings.substr(encoded, first, 4 * tf.maximum(colors, 0))
    # Stored as blue, green, red and a byte that means nothing.
    octets = tf.io.decode_raw(palette, tf.uint8, fixed_length=4 * 256)
    return tf.reshape(octets, (256, 4))[:, 2::-1]


def _first_gif_frame(encoded):
    """A GIF file that has the first frame of this one, and nothing else.

    TensorFlow decodes all frames and takes the first. It makes transparent pixels black
    where Pillow gives their color, so the extension that names them is left out.
    """
    size = tf.cast(tf.strings.length(encoded), tf.int64)
    # Zeros at the end: what is cut off ends there, and is refused by the decoder.
    octets = tf.pad(tf.io.decode_raw(encoded, tf.uint8), [[0, 2048]])

    def octet(at):
        return tf.cast(octets[at], tf.int64)

    def color_table(flags):
        return tf.where(flags >= 0x80, 3 * 2 ** (flags % 8 + 1), tf.zeros_like(flags))

    def skip_extension(at, inside):
        # Two bytes and then sub-blocks, each with its size before it; the last has 0.
        length = octet(at)
        return at + tf.where(inside, 1 + length, 2), ~inside | (length > 0)

    prefix = tf.minimum(13 + color_table(octet(10)), size)
    frame, _ = tf.while_loop(
        lambda at, inside: (at < size) & (inside | (octet(at) == 0x21)),
        skip_extension,
        (prefix, tf.constant(False)),
        maximum_iterations=_SUB_BLOCKS,
    )
    frame = tf.minimum(frame, size)
    descriptor = tf.cast(octets[frame : frame + 9], tf.int64)
    place = tf.linalg.matvec(_FRAME_VALUES, descriptor)
    screen = tf.linalg.matvec(_SCREEN_VALUES, tf.cast(octets[:10], tf.int64))
    encoded = _unless(
        {
            _NO_FRAME: octet(frame) != 0x2C,
            _PART: tf.reduce_any((place[:2] > 0) | (place[2:] < screen)),
            _TOO_LARGE: _too_large(place[2:]),
        },
        encoded,
    )
    codes = frame + 10 + color_table(octet(frame + 9)) + 1
    (end,) = tf.while_loop(
        lambda at: (at < size) & (octet(at) > 0),
        lambda at: (at + 1 + octet(at),),
        (tf.minimum(codes, size),),
        maximum_iterations=_SUB_BLOCKS,
    )
    return tf.strings.join(
        [
            tf.strings.substr(encoded, tf.zeros_like(prefix), prefix),
            tf.strings.substr(encoded, frame, end + 1 - frame),
            b";",
        ]
    )
