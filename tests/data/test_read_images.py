import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_dml.data.read_images import read_images


def read(rows, paths, side=8):
    return list(read_images(tf.data.Dataset.from_tensor_slices(rows), paths, side))


@pytest.fixture
def paths(tmp_path, noise):
    return [
        shutil.copy(path, f"{tmp_path}/{i}.png")
        for i, path in enumerate(noise.paths[:6])
    ]


def test_rows_keep_their_order_and_what_stands_beside_them(noise):
    index = np.random.default_rng(0).integers(0, 21, 50)
    beside = np.arange(100).reshape(50, 2)
    elements = read((index, beside), noise.paths)
    assert [int(row) for _, row, _ in elements] == index.tolist()
    np.testing.assert_array_equal([numbers for _, _, numbers in elements], beside)
    images = {}
    for image, row, _ in elements:
        images.setdefault(int(row), image.numpy())
        np.testing.assert_array_equal(image, images[int(row)])
    assert len({image.tobytes() for image in images.values()}) == len(images)


def test_shape_is_known(noise):
    rows = tf.data.Dataset.from_tensor_slices((np.arange(21),))
    image, index = read_images(rows, noise.paths, 9).element_spec
    assert (image.shape, image.dtype) == ((9, 9, 3), tf.uint8)
    assert (index.shape, index.dtype) == ((), tf.int64)


def test_no_rows_give_no_images(noise):
    assert read((np.zeros(0, np.int64),), noise.paths) == []


@pytest.mark.parametrize("bad", range(6))
def test_images_before_an_unreadable_one_are_given_and_it_is_named(paths, bad):
    pathlib.Path(paths[bad]).write_text("not an image")
    rows = tf.data.Dataset.from_tensor_slices((np.arange(6),))
    given = []
    with pytest.raises(tf.errors.InvalidArgumentError, match=paths[bad]):
        for _, index in read_images(rows, paths, 8):
            given.append(int(index))
    assert given == list(range(bad))


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
