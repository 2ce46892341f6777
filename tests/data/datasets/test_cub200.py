import codecs
import os
import shutil

import numpy as np
import pytest

from keras_dml.data.datasets import cub200
from tests.data.miniature_archives import change_line
from tests.data.miniature_archives import use_counts
from tests.data.miniature_archives import write_cub200


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Classes of 3 and 2 images to train on; of 2, 4 and 1 to test on."""
    root = tmp_path / "CUB_200_2011"
    use_counts(monkeypatch, "cub200", write_cub200(root))
    return root


def test_first_classes_are_trained_on_and_the_others_tested_on(archive):
    train, test = cub200(archive)
    assert train.class_names == ("001.Species_1", "002.Species_2")
    assert test.class_names == ("003.Species_3", "004.Species_4", "005.Species_5")
    assert train.labels.tolist() == [0, 0, 0, 1, 1]
    assert test.labels.tolist() == [0, 0, 1, 1, 1, 1, 2]
    assert train.is_query is None and test.is_query is None
    assert train.paths[0] == f"{archive}/images/001.Species_1/Species_1_0000_00.jpg"
    for part in (train, test):
        for path, label in zip(part.paths, part.labels, strict=True):
            assert os.path.basename(os.path.dirname(path)) == part.class_names[label]


def test_folder_it_was_extracted_in_will_do(archive):
    for inner, outer in zip(cub200(archive), cub200(str(archive.parent)), strict=True):
        assert inner.paths.tolist() == outer.paths.tolist()


def test_images_are_decodable_by_their_paths(archive):
    train, _ = cub200(archive)
    (images,) = train.images(8)
    first, *others = images.numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(others[:2], [first, first], atol=1)
    assert np.abs(others[2] - first).max() > 5


def test_labels_go_by_image_id_not_by_line(archive):
    before = cub200(archive)
    for name in ("images.txt", "image_class_labels.txt", "classes.txt"):
        lines = (archive / name).read_text().splitlines()
        np.random.default_rng(len(name)).shuffle(lines)
        (archive / name).write_text("\n".join(lines))
    for first, shuffled in zip(before, cub200(archive), strict=True):
        assert first.class_names == shuffled.class_names
        label_of = dict(zip(first.paths, first.labels, strict=True))
        assert label_of == dict(zip(shuffled.paths, shuffled.labels, strict=True))


def test_windows_line_endings_and_blank_lines_do_not_matter(archive):
    before = cub200(archive)
    for name in ("images.txt", "image_class_labels.txt", "classes.txt"):
        text = (archive / name).read_text().replace("\n", "\r\n\r\n")
        (archive / name).write_bytes(codecs.BOM_UTF8 + text.encode())
    for first, again in zip(before, cub200(archive), strict=True):
        assert first.paths.tolist() == again.paths.tolist()
        assert first.labels.tolist() == again.labels.tolist()


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("images.txt", "4", "2 columns"),
        ("images.txt", "four 002.Species_2/x.jpg", "image_id must be a whole number"),
        ("images.txt", "3 002.Species_2/x.jpg", "image_id 3 appears twice"),
        ("images.txt", "4 001.Species_1/Species_1_0000_00.jpg", "appears twice"),
        ("images.txt", "4 ../../x.jpg", "path inside the data set"),
        ("images.txt", "4 /etc/x.jpg", "path inside the data set"),
        ("images.txt", "99 x.jpg", "image_id 4 is not in images"),
        ("image_class_labels.txt", "4", "2 columns"),
        ("image_class_labels.txt", "4 two", "class_id must be a whole number"),
        ("image_class_labels.txt", "4 0", "class_id must be a whole number of at"),
        ("image_class_labels.txt", "4 6", r"class_id must lie in 1\.\.5; got 6"),
        ("image_class_labels.txt", "1 2", "image_id 1 appears twice, first on line 1"),
        ("image_class_labels.txt", "99 2", "image_id 99 is not in images.txt"),
        ("classes.txt", "4", "2 columns"),
        ("classes.txt", "4 004 Species", "2 columns"),
        ("classes.txt", "3 004.Species_4", "class_id 3 appears twice"),
        ("classes.txt", "4 003.Species_3", "class_name 003.Species_3 appears twice"),
    ],
)
def test_hostile_line_is_named(archive, name, line, message):
    change_line(archive / name, 4, line)
    where = r"image_class_labels\.txt" if line == "99 x.jpg" else name
    with pytest.raises(ValueError, match=rf"{where}', line 4: .*{message}"):
        cub200(archive)


def test_image_without_a_class_is_named(archive):
    change_line(archive / "image_class_labels.txt", 12, "")
    with pytest.raises(ValueError, match=r"images\.txt', line 12: image_id 12 is not"):
        cub200(archive)


def test_class_without_a_name_is_named(archive):
    change_line(archive / "classes.txt", 5, "")
    with pytest.raises(ValueError, match=r"line 12: class_id 5 is not in classes\.txt"):
        cub200(archive)


@pytest.mark.parametrize("name", ["image_class_labels.txt", "classes.txt"])
def test_missing_file_is_named(archive, name):
    os.remove(archive / name)
    with pytest.raises(FileNotFoundError, match=f"no file '{archive / name}'; extract"):
        cub200(archive)


def test_half_extracted_images_are_named(archive):
    shutil.rmtree(archive / "images" / "004.Species_4")
    with pytest.raises(
        FileNotFoundError,
        match=r"^4 of 12 images are missing; the first is .*/004\.Species_4/.*_0000_"
        r".*Extract CUB_200_2011\.tgz again",
    ):
        cub200(archive)


def test_list_cut_short_says_which_counts_differ(archive):
    for name in ("images.txt", "image_class_labels.txt"):
        for number in (4, 5, 12):
            change_line(archive / name, number, "")
    with pytest.raises(
        ValueError,
        match=r"images\.txt' is incomplete, .*; train classes: 1 found, 2 expected; "
        r"train images: 3 found, 5 expected; test classes: 2 found, 3 expected; "
        r"test images: 6 found, 7 expected\. Extract CUB_200_2011\.tgz again",
    ):
        cub200(archive)


def test_folder_without_it_says_where_to_get_it(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "files.txt").touch()
    with pytest.raises(
        FileNotFoundError,
        match=r"no images\.txt in .*https://data\.caltech\.edu/records/65de6-vp158.*2010",
    ):
        cub200(tmp_path)


def test_archive_of_another_size_is_refused(tmp_path):
    write_cub200(tmp_path, [1] * 100, [1] * 99)
    with pytest.raises(
        ValueError,
        match="; train images: 100 found, 5,864 expected; test classes: 99 found, 100",
    ):
        cub200(tmp_path)
