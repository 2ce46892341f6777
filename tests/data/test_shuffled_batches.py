import numpy as np
import pytest

from keras_dml.data import ImageDataset
from keras_dml.data import class_balanced_batches
from keras_dml.data import shuffled_batches

OPTIONS = {"image_size": 12, "resize": 14}


@pytest.fixture
def numbered(noise):
    """The noisy images, each with a label of its own, so that a label tells which."""
    return ImageDataset(
        noise.paths, np.arange(len(noise)), tuple(map(str, range(len(noise))))
    )


def passes(batches, count):
    """The labels of each pass: (steps, batch)."""
    return [np.stack([labels.numpy() for _, labels in batches]) for _ in range(count)]


def test_a_pass_shows_every_image_at_most_once_and_the_next_is_another_order(numbered):
    batches = shuffled_batches(numbered, 4, **OPTIONS)
    assert len(batches) == 5
    first, second = passes(batches, 2)
    for labels in (first, second):
        assert labels.shape == (5, 4)
        assert len(np.unique(labels)) == 20
    assert (first != second).any()


def test_all_images_come_where_the_batch_divides_them(numbered):
    (labels,) = passes(shuffled_batches(numbered, 7, **OPTIONS), 1)
    np.testing.assert_array_equal(np.sort(labels, axis=None), np.arange(21))


def test_large_classes_come_in_proportion(noise):
    counts = np.zeros(5)
    # Arrays, as every pass over files takes half a second to start.
    rows = (np.zeros((21, 1), np.uint8), noise.labels)
    for labels in passes(shuffled_batches(rows, 10), 60):
        counts += np.bincount(labels.ravel(), minlength=5)
    # Each of the 21 images is in 20 of 21 places; four standard errors about it.
    np.testing.assert_allclose(counts / 60, np.array([2, 3, 4, 5, 7]) * 20 / 21, 0.05)


def test_same_seed_gives_the_same_pixels_and_another_does_not(noise):
    first, again, other = (
        np.concatenate([images for images, _ in shuffled_batches(noise, 7, seed=seed)])
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_images_are_augmented_as_balanced_ones_are(noise):
    # A single class makes both draw from the same images.
    single = ImageDataset(noise.paths[-1:], [0], ("only",))
    for cache in (None, "memory"):
        plain = shuffled_batches(single, 1, cache=cache, **OPTIONS)
        balanced = class_balanced_batches(single, 1, 1, cache=cache, **OPTIONS)
        for _ in range(3):
            for (image, _), (expected, _) in zip(plain, balanced, strict=True):
                np.testing.assert_array_equal(image, expected)


def test_initial_step_goes_on_in_the_middle_of_a_pass(numbered):
    whole = np.concatenate(passes(shuffled_batches(numbered, 4, **OPTIONS), 2))
    (rest,) = passes(shuffled_batches(numbered, 4, initial_step=3, **OPTIONS), 1)
    np.testing.assert_array_equal(rest, whole[3:8])


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [
        (22, "batch_size=22 needs as many images.* 21"),
        (0, "at least 1"),
        (2.0, "2.0"),
        (True, "True"),
    ],
)
def test_wrong_batch_size_is_refused(noise, batch_size, message):
    with pytest.raises(ValueError, match=message):
        shuffled_batches(noise, batch_size)
