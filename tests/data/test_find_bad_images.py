import io
import os
import pathlib
import struct

import numpy as np
import pytest
from PIL import Image

from keras_dml.data import find_bad_images
from keras_dml.data import image_folder
from tests.fuzz.mutations import image_files

FILES = image_files()


def png_of(side):
    """A PNG of 1×1 whose header claims to be of another size."""
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[16:24] = struct.pack(">II", side, side)
    return bytes(content)


SOUND = {
    "cmyk.jpg": FILES["JPEG CMYK"],
    "16 bits.png": FILES["PNG 16 bits"],
    "palette.bmp": FILES["BMP palette"],
    "animated.gif": FILES["GIF animated"],
    "a png by another name.jpg": FILES["PNG"],
}
BAD = {
    "empty.jpg": (b"", "the file is empty"),
    "text.jpg": (b"not an image", "it is no JPEG, PNG"),
    "huge.png": (png_of(30_000), "it has more than 178,956,970 pixels"),
    "opaque.webp": (
        FILES["WEBP animated opaque"],
        "it is an animated WebP without alpha, at which TensorFlow's decoder fails",
    ),
    "cut.jpg": (FILES["JPEG"][:400], "Invalid JPEG data"),
    "cut.png": (FILES["PNG"][:400], "Invalid PNG data"),
    "cut.gif": (FILES["GIF"][:400], "it is a GIF without a frame"),
    "cut.bmp": (FILES["BMP"][:400], "Input size should match"),
    "cut.webp": (FILES["WEBP"][:400], "Failed to decode WebP"),
}


@pytest.fixture
def folder(tmp_path):
    """One class of sound images, and one with images of every bad kind."""
    for name, contents in ("sound", SOUND), ("bad", {k: v[0] for k, v in BAD.items()}):
        (tmp_path / "test" / name).mkdir(parents=True)
        for file, content in contents.items():
            (tmp_path / "test" / name / file).write_bytes(content)
    for name, side in ("one pixel", 1), ("other", 9):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (side, side)).save(tmp_path / "train" / name / "1.png")
    return tmp_path


@pytest.fixture
def found(folder):
    """{name: reason}, with links, one of them in a circle, and a file that went."""
    bad = folder / "test" / "bad"
    (bad / "nowhere.jpg").symlink_to("missing.jpg")
    (bad / "circle.jpg").symlink_to("circle.jpg")
    (bad / "vanished.jpg").write_bytes(FILES["JPEG"])
    train, test = image_folder(folder, check_files=False)
    (bad / "vanished.jpg").unlink()
    bad_images = find_bad_images(train, test)
    assert all(path in test.paths for path in bad_images)
    return {os.path.basename(path): reason for path, reason in bad_images.items()}


def test_every_bad_image_is_found_and_no_sound_one(found):
    assert sorted(found) == sorted({*BAD, "nowhere.jpg", "circle.jpg", "vanished.jpg"})


@pytest.mark.parametrize("name", BAD)
def test_reason_is_one_line_that_says_what_is_wrong(found, name):
    assert found[name].startswith(BAD[name][1])
    assert "\n" not in found[name] and "{{" not in found[name]


def test_reason_of_what_can_not_be_opened_is_the_systems(found):
    assert found["nowhere.jpg"] == found["vanished.jpg"] == "No such file or directory"
    assert found["circle.jpg"] == "Too many levels of symbolic links"


def test_folder_in_place_of_an_image_is_found(folder):
    train, _ = image_folder(folder, check_files=False)
    file = pathlib.Path(train.paths[0])
    file.unlink()
    file.mkdir()
    assert find_bad_images(train) == {str(file): "Is a directory"}


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipe_and_device_are_found_without_reading_them(kind, folder):
    bad = folder / "test" / "bad" / "endless.jpg"
    if kind == "pipe":
        os.mkfifo(folder / "pipe")
    bad.symlink_to(folder / "pipe" if kind == "pipe" else "/dev/zero")
    _, test = image_folder(folder, check_files=False)
    assert find_bad_images(test)[str(bad)] == "it is no regular file"
    for file in BAD:
        (folder / "test" / "bad" / file).unlink()
    with pytest.raises(ValueError, match=r"endless\.jpg' is no regular file; remove"):
        image_folder(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_without_permission_is_found(folder):
    train, _ = image_folder(folder, check_files=False)
    os.chmod(train.paths[0], 0)
    assert find_bad_images(train) == {train.paths[0]: "Permission denied"}


def test_nothing_is_found_where_all_is_well(noise):
    assert find_bad_images(noise) == {}
    assert np.array_equal(noise.without({}).paths, noise.paths)
