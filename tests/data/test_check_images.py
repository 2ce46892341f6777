import pathlib
import shutil

import numpy as np
import pytest

from keras_dml.data import ImageDataset
from keras_dml.data import check_images


@pytest.fixture
def copies(tmp_path, noise):
    """300 images, more than are read in one go."""
    paths = [
        shutil.copy(noise.paths[number % 21], f"{tmp_path}/{number:03}.png")
        for number in range(300)
    ]
    return ImageDataset(paths, np.zeros(300, int), ("a",))


def spoil(dataset, rows, content=b"not an image"):
    for row in rows:
        pathlib.Path(dataset.paths[row]).write_bytes(content)


def test_readable_images_pass(copies, capsys):
    check_images(copies)
    printed = capsys.readouterr().out
    assert "Reading 300 images" in printed
    assert "300/300" in printed


@pytest.mark.parametrize("row", [0, 150, 255, 256, 299])
def test_one_unreadable_image_is_named_on_one_line(copies, row):
    spoil(copies, [row])
    with pytest.raises(ValueError) as error:
        check_images(copies)
    assert str(error.value) == (
        f"Cannot read this image; repair or remove it: {copies.paths[row]}"
    )


def test_all_unreadable_images_are_named_in_order(copies):
    rows = [0, 1, 2, 9, 255, 256, 257, 299]
    spoil(copies, rows)
    with pytest.raises(ValueError) as error:
        check_images(copies)
    first, *named = str(error.value).splitlines()
    assert first.startswith("Cannot read 8 of 300 images")
    assert named == copies.paths[rows].tolist()


@pytest.mark.parametrize(("count", "last"), [(20, None), (21, "1"), (300, "280")])
def test_twenty_are_named_and_the_rest_counted(copies, count, last):
    spoil(copies, range(count))
    with pytest.raises(ValueError, match=f"Cannot read {count} of 300") as error:
        check_images(copies)
    lines = str(error.value).splitlines()
    assert lines[1:21] == copies.paths[:20].tolist()
    assert lines[21:] == ([] if last is None else [f"and {last} more"])


@pytest.mark.parametrize(
    "spoiled", [lambda content: b"", lambda content: content[: len(content) // 2]]
)
def test_empty_and_truncated_files_are_unreadable(copies, spoiled):
    file = pathlib.Path(copies.paths[7])
    spoil(copies, [7], spoiled(file.read_bytes()))
    with pytest.raises(ValueError, match=str(file)):
        check_images(copies)


def test_missing_file_is_unreadable(copies):
    pathlib.Path(copies.paths[7]).unlink()
    with pytest.raises(ValueError, match=copies.paths[7]):
        check_images(copies)


def test_data_sets_are_checked_together(copies, noise):
    spoil(copies, [3, 4])
    part = copies.subset([True])
    other = ImageDataset(copies.paths[4:5], [0], ("b",))
    with pytest.raises(ValueError, match=r"Cannot read 2 of 322 images") as error:
        check_images(noise, part, other)
    named = str(error.value).splitlines()[1:]
    assert named == [copies.paths[3], copies.paths[4]]


@pytest.mark.parametrize(
    ("datasets", "message"),
    [((), "one ImageDataset or more; got none"), (("photos",), "got 'photos'. Make")],
)
def test_what_is_no_image_dataset_is_refused(datasets, message):
    with pytest.raises(ValueError, match=message):
        check_images(*datasets)
