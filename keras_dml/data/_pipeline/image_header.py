"""What the header of an image file says, read in the graph before any decoder runs.

TensorFlow's decoders believe the header: they allocate what it asks for, a GIF's for
every frame, and of an animated WebP without alpha they write more than they allocated,
which ends the process. So a file reaches its decoder only when its header has been
looked at. An exported model has these operations too.
"""

import tensorflow as tf

MOST_PIXELS = 2 * (1024**3 // 4 // 3)
"""Pixels that an image may have, 178,956,970: the number above which Pillow refuses a
file as a decompression bomb, twice `PIL.Image.MAX_IMAGE_PIXELS`."""

_MOST_SUB_BLOCKS = 2**17
"""Of up to 255 bytes each, before the end of a GIF's first frame."""

_GRAY = [[level] * 3 for level in range(256)]


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
    height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(encoded, tf.int64))
    return _unless_too_large(encoded, width, height)


# Traced once, not in every pipeline anew: a second for so many operations.
@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
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
    header = tf.cast(tf.io.decode_raw(encoded, tf.uint8, fixed_length=66), tf.int64)
    formats = [
        (_has(header, b"\x89PNG\r\n\x1a\n"), lambda: _checked_png(encoded, header)),
        (_has(header, b"GIF8"), lambda: _first_gif_frame(encoded)),
        (_has(header, b"BM"), lambda: _checked_bmp(encoded, header)),
        (
            _has(header, b"RIFF") & _has(header, b"WEBP", 8),
            lambda: _checked_webp(encoded, header),
        ),
    ]

    def unknown():
        return _refused_if(True, "is no JPEG, PNG, BMP, GIF or WebP file", encoded)

    def is_bmp_with_palette():
        return _has(header, b"BM") & (_number(header, 28, 2) == 8)

    file = tf.case(formats, default=unknown, exclusive=False)
    palette = tf.cond(
        is_bmp_with_palette(),
        lambda: _bmp_palette(file, header),
        lambda: tf.constant(_GRAY, tf.uint8),
    )
    return file, palette


def _has(header, magic, at=0):
    return tf.reduce_all(header[at : at + len(magic)] == list(magic))


def _number(octets, at, count, big_endian=False):
    """The integer without sign that `count` bytes from `at` on hold."""
    places = [8 * place for place in range(count)]
    if big_endian:
        places.reverse()
    values = tf.cast(octets[at : at + count], tf.int64)
    return tf.reduce_sum(tf.bitwise.left_shift(values, tf.constant(places, tf.int64)))


def _refused_if(condition, reason, encoded):
    """Returns the bytes, for what must not run before the condition is known."""
    check = tf.debugging.Assert(
        tf.logical_not(condition), [f"Cannot read this image: it {reason}."]
    )
    # None where this runs eagerly, and has raised.
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(encoded)


def _unless_too_large(encoded, width, height):
    return _refused_if(
        # Divided, as products of what a file may claim can overflow.
        width > MOST_PIXELS // tf.maximum(height, 1),
        f"has more than {MOST_PIXELS:,} pixels",
        encoded,
    )


def _checked_png(encoded, header):
    width, height = (_number(header, at, 4, big_endian=True) for at in (16, 20))
    return _unless_too_large(encoded, width, height)


def _checked_webp(encoded, header):
    extended = _has(header, b"VP8X", 12)
    lossless = _has(header, b"VP8L", 12)

    def from_extended():
        return tf.stack([_number(header, at, 3) + 1 for at in (24, 27)])

    def from_lossless():
        bits = _number(header, 21, 4)
        return tf.stack([bits % 2**14 + 1, bits // 2**14 % 2**14 + 1])

    def from_lossy():
        return tf.stack([_number(header, at, 2) % 2**14 for at in (26, 28)])

    width, height = tf.unstack(
        tf.case(
            [(extended, from_extended), (lossless, from_lossless)], default=from_lossy
        ),
        num=2,
    )
    encoded = _unless_too_large(encoded, width, height)
    animated, alpha = (header[20] // bit % 2 == 1 for bit in (0x02, 0x10))
    return _refused_if(
        extended & animated & ~alpha,
        "is an animated WebP without alpha, at which TensorFlow's decoder fails; save "
        "one frame of it",
        encoded,
    )


def _checked_bmp(encoded, header):
    width, height = (_number(header, at, 4) for at in (18, 22))
    # A negative height means that the top row comes first.
    height = tf.minimum(height, 2**32 - height)
    encoded = _unless_too_large(encoded, width, height)
    bits, compression = _number(header, 28, 2), _number(header, 30, 4)
    plain = compression == 0
    # Pixels of blue, green, red and alpha bytes, described by masks.
    masks = tf.stack([_number(header, at, 4) for at in (54, 58, 62)])
    usual = tf.reduce_all(masks == [0xFF0000, 0xFF00, 0xFF])
    plain |= (compression == 3) & (bits == 32) & usual
    sizes = tf.reduce_any(bits == tf.constant([8, 24, 32], tf.int64))
    return _refused_if(
        ~(plain & sizes & (_number(header, 14, 4) >= 40)),
        "is a BMP that TensorFlow's decoder can't read: it reads 8, 24 or 32 bits a "
        "pixel, without compression, and no OS/2 header; save it as PNG",
        encoded,
    )


def _bmp_palette(encoded, header):
    """The colors of a BMP file of 8 bits; those it has not are black, as Pillow's."""
    first, pixels = 14 + _number(header, 14, 4), _number(header, 10, 4)
    named = _number(header, 46, 4)
    colors = tf.where(named == 0, tf.constant(256, tf.int64), named)
    colors = tf.minimum(colors, (pixels - first) // 4)
    size = tf.strings.length(encoded)
    palette = tf.strings.substr(
        encoded,
        tf.minimum(first, tf.cast(size, tf.int64)),
        4 * tf.clip_by_value(colors, 0, 256),
    )
    # Stored as blue, green, red and a byte that means nothing.
    octets = tf.io.decode_raw(palette, tf.uint8, fixed_length=4 * 256)
    return tf.reverse(tf.reshape(octets, (256, 4))[:, :3], [1])


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
        return tf.where(
            flags >= 0x80, 3 * 2 ** (flags % 8 + 1), tf.constant(0, tf.int64)
        )

    def after_sub_blocks(at, blocks):
        return tf.while_loop(
            lambda at, blocks: (octet(at) > 0) & (blocks < _MOST_SUB_BLOCKS),
            lambda at, blocks: (at + 1 + octet(at), blocks + 1),
            (at, blocks),
            parallel_iterations=1,
        )

    def skip_extension(at, blocks):
        at, blocks = after_sub_blocks(at + 2, blocks)
        return at + 1, blocks + 1

    # The file's header and color table.
    prefix = 13 + color_table(octet(10))
    frame, blocks = tf.while_loop(
        lambda at, blocks: (
            (at < size) & (octet(at) == 0x21) & (blocks < _MOST_SUB_BLOCKS)
        ),
        skip_extension,
        (tf.minimum(prefix, size), tf.constant(0, tf.int64)),
        parallel_iterations=1,
    )
    frame = tf.minimum(frame, size)
    encoded = _refused_if(octet(frame) != 0x2C, "is a GIF without a frame", encoded)
    left, top, width, height = (_number(octets[frame:], at, 2) for at in (1, 3, 5, 7))
    whole_width, whole_height = (_number(octets, at, 2) for at in (6, 8))
    encoded = _refused_if(
        (left > 0) | (top > 0) | (width < whole_width) | (height < whole_height),
        "is a GIF whose first frame is only a part of it; save it as PNG",
        encoded,
    )
    encoded = _unless_too_large(encoded, width, height)
    codes = frame + 10 + color_table(octet(frame + 9))
    end, blocks = after_sub_blocks(tf.minimum(codes + 1, size), blocks)
    encoded = _refused_if(
        blocks >= _MOST_SUB_BLOCKS,
        f"is a GIF of more than {_MOST_SUB_BLOCKS:,} blocks; save it as PNG",
        encoded,
    )
    return tf.strings.join(
        [
            tf.strings.substr(encoded, tf.zeros_like(prefix), prefix),
            tf.strings.substr(encoded, frame, end + 1 - frame),
            b";",
        ]
    )
