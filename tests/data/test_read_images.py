import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_dml.data._pipeline.images import read_images


def batches_of(rows, size):
    return tf.data.Dataset.from_tensor_slices(rows).batch(size)


def read(rows, paths, batch_size=4):
    batches = batches_of(rows, batch_size)
    return list(read_images(batches, len(rows[0]), batch_size, paths, 8))


@pytest.fixture
def paths(tmp_path, noise):
    return [
        shutil.copy(path, f"{tmp_path}/{i}.png")
        for i, path in enumerate(noise.paths[:6])
    ]


@pytest.mark.parametrize("batch_size", [1, 7, 10, 50, 64])
def test_batches_keep_their_order_and_what_stands_beside_them(noise, batch_size):
    indices = np.random.default_rng(0).integers(0, 21, 50)
    beside = np.arange(100).reshape(50, 2)
    batches = read((indices, beside), noise.paths, batch_size)
    sizes = [len(images) for images, _, _ in batches]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sum(sizes) == 50
    images, found, numbers = (
        np.concatenate(parts) for parts in zip(*batches, strict=True)
    )
    np.testing.assert_array_equal(found, indices)
    np.testing.assert_array_equal(numbers, beside)
    alone = np.concatenate(
        [read((np.array([index]),), noise.paths, 1)[0][0] for index in range(21)]
    )
    assert len({image.tobytes() for image in alone}) == 21
    np.testing.assert_array_equal(images, alone[indices])


def test_finish_gets_the_image_and_its_row(noise):
    rows = (np.arange(6), np.arange(6) % 2 == 0)
    (batch,) = read_images(
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
@pytest.mark.parametrize("batch_size", [2, 3, 4, 6])
def test_batches_before_an_unreadable_image_are_given_and_it_is_named(
    paths, bad, batch_size
):
    pathlib.Path(paths[bad]).write_text("not an image")
    given = []
    with pytest.raises(tf.errors.InvalidArgumentError, match=paths[bad]):
        for _, indices in read_images(
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
