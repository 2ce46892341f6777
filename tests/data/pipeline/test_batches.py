import importlib
import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

module = importlib.import_module("keras_dml.data._pipeline.batches")

SIDE = 16


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_DML_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "resized_images"


@pytest.fixture
def paths(tmp_path, noise):
    """Copies of four images, to change."""
    return np.array(
        [shutil.copy(path, f"{tmp_path}/{i}.png") for i, path in enumerate(noise.paths)]
    )[:4]


@pytest.fixture
def reading_again_fails(monkeypatch):
    def forbid():
        monkeypatch.setattr(module, "_fill", lambda *_: pytest.fail("read again"))

    return forbid


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_every_image_is_resized_as_pillow_does(cache, noise, kind):
    pixels = module.resized_images(noise.paths, SIDE, kind)
    assert (pixels.shape, pixels.dtype) == ((21, SIDE, SIDE, 3), np.uint8)
    for image, path in zip(pixels, noise.paths, strict=True):
        with Image.open(path) as original:
            expected = original.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        assert np.abs(image.astype(int) - np.asarray(expected)).max() <= 1


def test_more_images_than_are_read_at_once_keep_their_order(cache, noise):
    rows = np.random.default_rng(0).integers(0, 21, 600)
    pixels = module.resized_images(noise.paths, SIDE, "memory")
    many = module.resized_images(noise.paths[rows], SIDE, "memory")
    np.testing.assert_array_equal(many, pixels[rows])


def test_memory_leaves_no_file(cache, paths):
    module.resized_images(paths, SIDE, "memory")
    assert not cache.exists()


def test_file_is_found_again(cache, paths, reading_again_fails):
    first = np.array(module.resized_images(paths, SIDE, "disk"))
    reading_again_fails()
    np.testing.assert_array_equal(module.resized_images(paths, SIDE, "disk"), first)
    assert len(os.listdir(cache)) == 1


def test_file_is_found_again_from_another_working_directory(
    cache, paths, reading_again_fails, monkeypatch
):
    module.resized_images(paths, SIDE, "disk")
    reading_again_fails()
    monkeypatch.chdir(pathlib.Path(paths[0]).parent)
    relative = np.array([os.path.basename(path) for path in paths])
    module.resized_images(relative, SIDE, "disk")


def test_file_cannot_be_written_through(cache, paths):
    pixels = module.resized_images(paths, SIDE, "disk")
    assert isinstance(pixels, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 0


def test_image_of_another_size_makes_a_new_file(cache, paths):
    module.resized_images(paths, SIDE, "disk")
    time = os.stat(paths[1]).st_mtime_ns
    Image.new("RGB", (5, 5), (7, 8, 9)).save(paths[1])
    os.utime(paths[1], ns=(time, time))
    pixels = module.resized_images(paths, SIDE, "disk")
    assert (pixels[1] == (7, 8, 9)).all()
    assert len(os.listdir(cache)) == 2


def test_image_changed_at_another_time_makes_a_new_file(cache, paths):
    module.resized_images(paths, SIDE, "disk")
    time = os.stat(paths[1]).st_mtime_ns + 1_000_000
    os.utime(paths[1], ns=(time, time))
    module.resized_images(paths, SIDE, "disk")
    assert len(os.listdir(cache)) == 2


def test_other_sides_and_other_orders_are_other_files(cache, paths):
    straight = module.resized_images(paths, SIDE, "disk")
    module.resized_images(paths, SIDE + 1, "disk")
    backward = module.resized_images(paths[::-1], SIDE, "disk")
    np.testing.assert_array_equal(backward, straight[::-1])
    assert len(os.listdir(cache)) == 3


def test_nothing_is_left_by_an_interruption(cache, paths, monkeypatch):
    fill = module._fill

    def interrupt(pixels, *rest):
        fill(pixels, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_fill", interrupt)
    with pytest.raises(KeyboardInterrupt):
        module.resized_images(paths, SIDE, "disk")
    assert os.listdir(cache) == []


def test_nothing_is_left_by_an_unreadable_image(cache, paths):
    pathlib.Path(paths[2]).write_text("not an image")
    with pytest.raises(ValueError, match=paths[2]):
        module.resized_images(paths, SIDE, "disk")
    assert os.listdir(cache) == []
