import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_dml.data._pipeline.image_header import MOST_PIXELS
from keras_dml.data._pipeline.images import decode_image
from tests.fork_server import run_module
from tests.fuzz.mutations import image_files
from tests.fuzz.mutations import mutated

FILES = image_files()


@pytest.fixture(scope="module")
def decoded():
    function = tf.function(decode_image, input_signature=[tf.TensorSpec((), tf.string)])
    return lambda content: function(tf.constant(bytes(content))).numpy()


def by_pillow(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def skip_webp_where_it_is_not_read(kind):
    if kind.startswith("WEBP") and not hasattr(tf.io, "decode_webp"):
        pytest.skip(f"TensorFlow {tf.__version__} does not read WebP")


# Pillow cuts 16 bits off at 255; tests/data/pipeline/test_images.py has those.
SHOWN = sorted(
    set(FILES) - {"PNG 16 bits", "BMP 1 bit", "WEBP animated", "WEBP animated opaque"}
)
_FRAME = b"\x2c\0\0\0\0" + struct.pack("<HH", 53, 37)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("kind", SHOWN)
def test_file_is_shown_as_pillow_shows_it(kind, decoded):
    skip_webp_where_it_is_not_read(kind)
    expected = by_pillow(FILES[kind])
    assert np.abs(decoded(FILES[kind]) - expected).max() <= 1
    assert expected.std() > 10


def test_transparent_pixels_of_a_gif_have_their_color(decoded):
    stream = io.BytesIO()
    image = Image.open(io.BytesIO(FILES["GIF"]))
    image.save(stream, "GIF", transparency=int(np.asarray(image)[5, 5]))
    content = stream.getvalue()
    np.testing.assert_array_equal(decoded(content), by_pillow(content))


def test_bmp_may_have_fewer_colors_and_start_at_the_top(decoded):
    image = Image.open(io.BytesIO(FILES["BMP palette"]))
    content = bytearray(FILES["BMP palette"])
    content[22:26] = struct.pack("<i", -37)
    np.testing.assert_array_equal(
        decoded(content), np.asarray(image.convert("RGB"))[::-1]
    )


def changed(kind, at, layout, *values):
    content = bytearray(FILES[kind])
    struct.pack_into(layout, content, at, *values)
    return content


def jpeg_of_size(height, width):
    frame = FILES["JPEG"].index(b"\xff\xc0")
    return changed("JPEG", frame + 5, ">HH", height, width)


TOO_LARGE = {
    "JPEG": jpeg_of_size(30_000, 30_000),
    "PNG": changed("PNG", 16, ">II", 30_000, 30_000),
    "PNG of 2^62 pixels": changed("PNG", 16, ">II", 2**31 - 1, 2**31 - 1),
    "BMP": changed("BMP", 18, "<ii", 30_000, 30_000),
    "BMP from the top": changed("BMP", 18, "<ii", 30_000, -30_000),
    "WEBP": changed("WEBP", 26, "<HH", 16_383, 16_383),
    "WEBP lossless": changed("WEBP lossless", 21, "<I", 2**28 - 1),
    "WEBP of 2^48 pixels": changed(
        "WEBP animated with alpha", 24, "6s", b"\xff\xff\xff\xff\xff\xff"
    ),
}


def gif_with_frame(left, top, width, height):
    at = FILES["GIF"].index(_FRAME) + 1
    return changed("GIF", at, "<HHHH", left, top, width, height)


@pytest.mark.parametrize("kind", TOO_LARGE)
def test_more_pixels_than_the_limit_are_refused_by_the_header(kind, decoded):
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="has more than 178,956,970"
    ):
        decoded(TOO_LARGE[kind])


def test_limit_is_pillows():
    assert MOST_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


REFUSED = {
    "text": (b"not an image at all", "is no JPEG, PNG, BMP, GIF or WebP file"),
    "one byte": (b"B", "is no JPEG"),
    "nothing": (b"", "is no JPEG"),
    "TIFF": (b"II*\0" + bytes(100), "is no JPEG"),
    "JPEG XL": (b"\xff\x0a" + bytes(100), "is no JPEG"),
    "animated WebP without alpha": (
        FILES["WEBP animated opaque"],
        "is an animated WebP without alpha",
    ),
    "BMP of one bit": (FILES["BMP 1 bit"], "is a BMP that"),
    "BMP of 16 bits": (changed("BMP", 28, "<H", 16), "is a BMP that"),
    "BMP with run lengths": (changed("BMP gray", 30, "<I", 1), "is a BMP that"),
    "BMP with OS/2's header": (changed("BMP", 14, "<I", 12), "is a BMP that"),
    "GIF without a frame": (FILES["GIF"][:781], "is a GIF without a frame"),
    "GIF cut in its header": (b"GIF89a", "is a GIF without a frame"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_decoder_must_not_see_is_refused_in_a_line(kind, decoded):
    content, reason = REFUSED[kind]
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        decoded(content)


@pytest.mark.parametrize("frame", [(1, 0, 52, 37), (0, 1, 53, 36), (0, 0, 20, 20)])
def test_gif_whose_first_frame_is_a_part_of_it_is_refused(frame, decoded):
    with pytest.raises(tf.errors.InvalidArgumentError, match="only a part of it"):
        decoded(gif_with_frame(*frame))


def test_frames_after_the_first_are_not_decoded(decoded):
    huge = struct.pack("<cHHHHB", b"\x2c", 0, 0, 65_535, 65_535, 0)
    content = FILES["GIF"].removesuffix(b";") + huge + b"\x08\xff"
    np.testing.assert_array_equal(decoded(content), by_pillow(FILES["GIF"]))


@pytest.mark.slow
def test_animated_webp_is_refused_and_ends_no_process(tmp_path):
    if not hasattr(tf.io, "decode_webp"):
        pytest.skip(f"TensorFlow {tf.__version__} does not read WebP")
    ended = run_module("tests.fuzz.read_animated_webp", tmp_path)
    assert ended.returncode == 0, ended.stderr
    loader, checker = (
        line for line in ended.stdout.splitlines() if line.startswith("refused: ")
    )
    # The loader names the file between brackets, as TensorFlow prints it.
    assert f"{tmp_path}/animated.webp" in loader
    assert f"repair or remove it: {tmp_path}/animated.webp" in checker
    assert f"served: {' '.join(['False'] * 8)}" in ended.stdout


def test_damaged_files_are_read_or_refused(decoded):
    outcomes = []
    for number in range(300):
        _, content = mutated(FILES, number, seed=1)
        try:
            outcomes.append(decoded(content).shape[-1])
        except tf.errors.InvalidArgumentError:
            outcomes.append(None)
    assert outcomes.count(3) > 30
    assert outcomes.count(None) > 100
    assert set(outcomes) == {3, None}
