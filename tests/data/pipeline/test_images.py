import io
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_dml.data import preprocess_image
from keras_dml.data import unreadable_image
from keras_dml.data._pipeline import images

HEIGHT, WIDTH = 37, 53


@pytest.fixture(scope="module")
def picture():
    """Smooth colors with noise on them, so that no channel or axis looks alike."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    colors = np.stack((column * 4, row * 6, row + column * 2), axis=-1)
    noise = np.random.default_rng(0).integers(0, 30, colors.shape)
    return Image.fromarray((colors + noise).astype(np.uint8))


@pytest.fixture(scope="module")
def alpha():
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray((row * column % 256).astype(np.uint8))


def encoded(image, file_format, **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def decoded(content):
    image = images.decode_image(tf.constant(content))
    assert image.dtype == tf.uint8
    return image.numpy()


def by_pillow(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def gray_levels_apart(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other.astype(int)).max()


def with_alpha(image, alpha):
    image = image.copy()
    image.putalpha(alpha)
    return image


FILES = {
    "PNG, RGB": lambda image, alpha: encoded(image, "PNG"),
    "PNG, gray": lambda image, alpha: encoded(image.convert("L"), "PNG"),
    "PNG, gray and alpha": lambda image, alpha: encoded(
        with_alpha(image.convert("L"), alpha), "PNG"
    ),
    "PNG, RGBA": lambda image, alpha: encoded(with_alpha(image, alpha), "PNG"),
    "PNG, palette": lambda image, alpha: encoded(image.quantize(200), "PNG"),
    "PNG, palette of 4 bits": lambda image, alpha: encoded(image.quantize(16), "PNG"),
    "PNG, palette with one transparent color": lambda image, alpha: encoded(
        image.quantize(200), "PNG", transparency=3
    ),
    "PNG, palette with alpha": lambda image, alpha: encoded(
        image.quantize(200), "PNG", transparency=bytes(range(200))
    ),
    "PNG, gray with one transparent level": lambda image, alpha: encoded(
        image.convert("L"), "PNG", transparency=50
    ),
    "PNG, 1 bit": lambda image, alpha: encoded(image.convert("1"), "PNG"),
    "BMP, RGB": lambda image, alpha: encoded(image, "BMP"),
    "BMP, gray": lambda image, alpha: encoded(image.convert("L"), "BMP"),
    "BMP, RGBA": lambda image, alpha: encoded(with_alpha(image, alpha), "BMP"),
    "GIF": lambda image, alpha: encoded(image, "GIF"),
    "GIF, gray": lambda image, alpha: encoded(image.convert("L"), "GIF"),
    "GIF, animated": lambda image, alpha: encoded(
        image, "GIF", save_all=True, append_images=[image.rotate(180)]
    ),
    "WebP, lossless": lambda image, alpha: encoded(image, "WEBP", lossless=True),
    "WebP, lossless RGBA": lambda image, alpha: encoded(
        with_alpha(image, alpha), "WEBP", lossless=True, exact=True
    ),
    "WebP, animated": lambda image, alpha: encoded(
        image, "WEBP", lossless=True, save_all=True, append_images=[image.rotate(180)]
    ),
}
LOSSY_FILES = {
    "JPEG": lambda image: encoded(image, "JPEG"),
    "JPEG, colors at full size": lambda image: encoded(image, "JPEG", subsampling=0),
    "JPEG, progressive": lambda image: encoded(image, "JPEG", progressive=True),
    "JPEG, gray": lambda image: encoded(image.convert("L"), "JPEG"),
    "JPEG, CMYK": lambda image: encoded(image.convert("CMYK"), "JPEG"),
    "WebP": lambda image: encoded(image, "WEBP"),
}


def skip_webp_where_it_is_not_read(kind):
    if kind.startswith("WebP") and not hasattr(tf.io, "decode_webp"):
        pytest.skip(f"TensorFlow {tf.__version__} does not read WebP")


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("kind", FILES)
def test_file_without_loss_is_decoded_as_pillow_does(kind, picture, alpha):
    skip_webp_where_it_is_not_read(kind)
    content = FILES[kind](picture, alpha)
    np.testing.assert_array_equal(decoded(content), by_pillow(content))


@pytest.mark.parametrize("kind", LOSSY_FILES)
def test_lossy_file_is_decoded_within_one_gray_level_of_pillow(kind, picture):
    skip_webp_where_it_is_not_read(kind)
    content = LOSSY_FILES[kind](picture)
    assert gray_levels_apart(decoded(content), by_pillow(content)) <= 1


def test_png_of_16_bits_keeps_the_upper_ones(picture):
    deep = np.asarray(picture.convert("L")).astype(np.uint16) * 256 + 77
    image = decoded(encoded(Image.fromarray(deep), "PNG"))
    assert gray_levels_apart(image, np.repeat(deep[..., None] / 257, 3, axis=2)) <= 1


def test_alpha_is_dropped_not_blended(picture):
    clear = Image.new("L", picture.size, 0)
    content = encoded(with_alpha(picture, clear), "PNG")
    np.testing.assert_array_equal(decoded(content), np.asarray(picture))


def test_exif_orientation_is_left_alone(picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° to view
    content = encoded(picture, "JPEG", exif=exif)
    assert decoded(content).shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(decoded(content), decoded(encoded(picture, "JPEG")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_truncated_file_is_refused(kind, picture):
    content = encoded(picture, kind)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoded(content[: len(content) * 9 // 10])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("size", "side"),
    [
        ((53, 37), 16),
        ((53, 37), 37),
        ((53, 37), 64),
        ((200, 31), 64),
        ((31, 200), 50),
        ((256, 256), 256),
        ((500, 400), 256),
        ((1, 1), 8),
        ((640, 7), 3),
    ],
)
def test_resizing_is_within_one_gray_level_of_pillow(kind, size, side):
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    content = encoded(Image.fromarray(noise), kind, quality=90)
    resized = images.resize_image(images.decode_image(content), side)
    with Image.open(io.BytesIO(content)) as image:
        expected = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    assert resized.dtype == tf.uint8
    assert gray_levels_apart(resized.numpy(), np.asarray(expected)) <= 1


def test_resized_pixels_are_rounded_not_cut_off():
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
    square = Image.fromarray(noise).resize((64, 64), Image.Resampling.BILINEAR)
    resized = images.resize_image(tf.constant(noise), 64).numpy()
    assert abs(resized.mean() - np.asarray(square).mean()) < 0.05


@pytest.mark.parametrize(
    ("image_size", "resize", "expected"),
    [(224, None, 256), (28, None, 32), (7, None, 8), (224, 300, 300), (20, 20, 20)],
)
def test_resize_defaults_to_the_papers_proportion(image_size, resize, expected):
    assert images.resized_side(image_size, resize) == expected


@pytest.mark.parametrize(
    ("image_size", "resize", "message"),
    [
        (0, None, "image_size must be an integer of at least 1; got 0"),
        (-3, 5, "image_size must be an integer of at least 1; got -3"),
        (28.0, None, "image_size must be an integer of at least 1; got 28.0"),
        (True, None, "image_size must be an integer of at least 1; got True"),
        (32, 40.0, "resize must be an integer of at least 1; got 40.0"),
        (32, 31, "resize=31, image_size=32"),
    ],
)
def test_sides_out_of_range_are_refused(image_size, resize, message):
    with pytest.raises(ValueError, match=message):
        images.resized_side(image_size, resize)


def numbered_pixels(side):
    """Pixel (row, column) holds (row, column, 0)."""
    row, column = np.mgrid[:side, :side]
    return np.stack((row, column, 0 * row), axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("side", "image_size", "margin"), [(8, 4, 2), (9, 4, 2), (8, 7, 0), (32, 28, 2)]
)
def test_center_crop_leaves_equal_margins(side, image_size, margin):
    crop = images.center_crop(tf.constant(numbered_pixels(side)), image_size)
    assert crop.shape == (image_size, image_size, 3)
    assert crop[0, 0].numpy().tolist() == [margin, margin, 0]
    last = margin + image_size - 1
    assert crop[-1, -1].numpy().tolist() == [last, last, 0]


def test_crop_starts_at_its_corner():
    crop = images.crop_image(tf.constant(numbered_pixels(8)), 3, 4, 1)
    np.testing.assert_array_equal(crop, numbered_pixels(8)[4:7, 1:4])


@pytest.mark.parametrize(
    ("draws", "top", "left", "mirrored"),
    [
        ((0.0, 0.0, 0.5), 0, 0, False),
        ((0.0, 0.9999, 0.9), 0, 2, False),
        ((0.9999, 0.0, 0.4999), 2, 0, True),
        ((0.34, 0.67, 0.0), 1, 2, True),
        ((0.33, 0.66, 0.99), 0, 1, False),
    ],
)
def test_draws_place_the_crop_and_mirror_it(draws, top, left, mirrored):
    image = numbered_pixels(8)
    expected = image[top : top + 6, left : left + 6]
    draws = tf.constant(draws)
    cropped = images.random_crop(tf.constant(image), 6, draws[:2])
    np.testing.assert_array_equal(cropped, expected)
    flipped = images.random_flip(cropped, draws[2])
    np.testing.assert_array_equal(flipped, expected[:, ::-1] if mirrored else expected)


def center_by_pillow(content, image_size, resize):
    with Image.open(io.BytesIO(content)) as image:
        square = image.convert("RGB").resize((resize,) * 2, Image.Resampling.BILINEAR)
    margin = (resize - image_size) // 2
    crop = (margin, margin, margin + image_size, margin + image_size)
    return np.asarray(square.crop(crop))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    ("image_size", "resize", "used"), [(28, None, 32), (20, 30, 30), (24, 24, 24)]
)
def test_preprocessing_decodes_resizes_and_crops_the_center(
    kind, picture, image_size, resize, used
):
    content = encoded(picture, kind)
    image = preprocess_image(content, image_size, resize)
    assert image.dtype == tf.uint8
    expected = center_by_pillow(content, image_size, used)
    assert gray_levels_apart(image.numpy(), expected) <= 1


def test_preprocessing_in_a_graph_gives_the_same_pixels_of_a_known_shape(picture):
    content = encoded(picture, "JPEG")
    in_graph = tf.function(
        lambda encoded: preprocess_image(encoded, 28),
        input_signature=[tf.TensorSpec((), tf.string)],
    )
    assert in_graph.get_concrete_function().output_shapes == (28, 28, 3)
    np.testing.assert_array_equal(in_graph(content), preprocess_image(content, 28))


def test_preprocessing_gives_the_pixels_that_a_data_set_gives(noise):
    (batch,) = noise.images(14, batch_size=21)
    for image, path in zip(batch, noise.paths, strict=True):
        one = preprocess_image(pathlib.Path(path).read_bytes(), 14)
        np.testing.assert_array_equal(image, one)


def test_preprocessing_refuses_a_wrong_side_and_what_is_no_image(picture):
    with pytest.raises(ValueError, match="resize=27, image_size=28"):
        preprocess_image(encoded(picture, "PNG"), 28, 27)
    with pytest.raises(tf.errors.InvalidArgumentError):
        preprocess_image(b"not an image", 28)


def batches_of(rows, size):
    return tf.data.Dataset.from_tensor_slices(rows).batch(size)


def read(rows, paths, batch_size=4):
    batches = batches_of(rows, batch_size)
    return list(images.read_images(batches, len(rows[0]), batch_size, paths, 8))


@pytest.fixture
def paths(tmp_path, noise):
    return [
        shutil.copy(path, f"{tmp_path}/{i}.png")
        for i, path in enumerate(noise.paths[:6])
    ]


@pytest.mark.parametrize("batch_size", [1, 7, 10, 50, 64])
def test_batches_keep_their_order_and_what_is_passed_on_with_them(noise, batch_size):
    indices = np.random.default_rng(0).integers(0, 21, 50)
    beside = np.arange(100).reshape(50, 2)
    batches = read((indices, beside), noise.paths, batch_size)
    sizes = [len(given) for given, _, _ in batches]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sum(sizes) == 50
    given, found, numbers = (
        np.concatenate(parts) for parts in zip(*batches, strict=True)
    )
    np.testing.assert_array_equal(found, indices)
    np.testing.assert_array_equal(numbers, beside)
    alone = np.stack(
        [
            images.resize_image(images.decode_image(tf.io.read_file(path)), 8)
            for path in noise.paths
        ]
    )
    assert len({image.tobytes() for image in alone}) == 21
    np.testing.assert_array_equal(given, alone[indices])


def test_transform_gets_the_image_and_its_row(noise):
    rows = (np.arange(6), np.arange(6) % 2 == 0)
    (batch,) = images.read_images(
        batches_of(rows, 6),
        6,
        6,
        noise.paths,
        8,
        lambda image, index, wanted: tf.where(wanted, image, tf.zeros_like(image)),
    )
    blank = np.all(batch[0] == 0, axis=(1, 2, 3))
    assert blank.tolist() == [False, True] * 3


def test_no_rows_give_no_images(noise):
    assert read((np.zeros(0, np.int64),), noise.paths) == []


@pytest.mark.parametrize("bad", range(6))
@pytest.mark.parametrize(
    "batch_size",
    [3, 4, *(pytest.param(size, marks=pytest.mark.slow) for size in (2, 6))],
)
def test_batches_before_an_unreadable_image_are_given_and_it_is_named(
    paths, bad, batch_size
):
    pathlib.Path(paths[bad]).write_text("not an image")
    given = []
    with pytest.raises(tf.errors.InvalidArgumentError, match=paths[bad]):
        for _, indices in images.read_images(
            batches_of((np.arange(6),), batch_size), 6, batch_size, paths, 8
        ):
            given.extend(indices.numpy())
    assert given == list(range(bad - bad % batch_size))


def test_one_of_several_unreadable_images_in_a_row_is_named(paths):
    for bad in (1, 2, 5):
        pathlib.Path(paths[bad]).write_text("not an image")
    with pytest.raises(tf.errors.InvalidArgumentError, match=paths[2]):
        read((np.arange(6),), paths)


def test_only_unreadable_images_are_an_error_too(paths):
    pathlib.Path(paths[0]).write_text("not an image")
    with pytest.raises(tf.errors.InvalidArgumentError, match=paths[0]):
        read((np.zeros(3, np.int64),), paths)


def test_empty_file_is_named(paths):
    pathlib.Path(paths[3]).write_bytes(b"")
    with pytest.raises(tf.errors.InvalidArgumentError, match=paths[3]):
        read((np.arange(6),), paths)


def test_sentence_about_an_unreadable_image_is_found_in_the_error(paths):
    pathlib.Path(paths[3]).write_bytes(b"not an image")
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        read((np.arange(6),), paths)
    assert unreadable_image(caught.value) == (
        f"Cannot read this image; repair or remove it: {paths[3]}"
    )


def test_error_about_something_else_gives_no_sentence():
    error = tf.errors.InvalidArgumentError(None, None, "Incompatible shapes")
    assert unreadable_image(error) is None
