import os
import shutil

import numpy as np
import pytest

from keras_dml.data.datasets import stanford_online_products
from tests.data.miniature_archives import change_line
from tests.data.miniature_archives import use_counts
from tests.data.miniature_archives import write_stanford_online_products

TRAIN = "Ebay_train.txt"
TEST = "Ebay_test.txt"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Classes of 3 and 2 images to train on; of 2, 4 and 1 to test on."""
    root = tmp_path / "Stanford_Online_Products"
    counts = write_stanford_online_products(root)
    use_counts(monkeypatch, "stanford_online_products", counts)
    return root


def test_split_is_that_of_the_two_lists(archive):
    train, test = stanford_online_products(archive)
    assert train.class_names == ("1", "2")
    assert test.class_names == ("3", "4", "5")
    assert train.labels.tolist() == [0, 0, 0, 1, 1]
    assert test.labels.tolist() == [0, 0, 1, 1, 1, 1, 2]
    assert train.paths[0] == f"{archive}/bicycle_final/111085122871_0.JPG"
    assert test.paths[-1] == f"{archive}/cabinet_final/111085122875_0.JPG"
    assert train.is_query is None and test.is_query is None


def test_folder_it_was_extracted_in_will_do(archive):
    for inner, outer in zip(
        stanford_online_products(archive),
        stanford_online_products(str(archive.parent)),
        strict=True,
    ):
        assert inner.paths.tolist() == outer.paths.tolist()


def test_windows_line_endings_and_blank_lines_do_not_matter(archive):
    before = stanford_online_products(archive)
    for name in (TRAIN, TEST):
        text = (archive / name).read_text().replace("\n", "\r\n \r\n")
        (archive / name).write_bytes(text.encode("utf-8-sig"))
    for first, again in zip(before, stanford_online_products(archive), strict=True):
        assert first.paths.tolist() == again.paths.tolist()
        assert first.labels.tolist() == again.labels.tolist()


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        (TRAIN, "3 1 1", "4 columns .*got 3"),
        (TRAIN, "3 1 1 bicycle_final/a b.JPG", "4 columns .*got 5"),
        (TRAIN, "3 one 1 bicycle_final/x.JPG", "class_id must be a whole number"),
        (TRAIN, "3 0 1 bicycle_final/x.JPG", "class_id must be a whole number of at"),
        (
            TRAIN,
            "3 3 1 bicycle_final/x.JPG",
            r"class_id must lie in 1\.\.2 here; got 3",
        ),
        (TEST, "3 2 1 bicycle_final/x.JPG", r"class_id must lie in 3\.\.5 here; got 2"),
        (TEST, "3 6 1 bicycle_final/x.JPG", r"class_id must lie in 3\.\.5 here; got 6"),
        (TRAIN, "3 1 x bicycle_final/x.JPG", "super_class_id must be a whole number"),
        (
            TRAIN,
            "1 1 1 bicycle_final/x.JPG",
            "image_id 1 appears twice, first on line 2",
        ),
        (TRAIN, "3 1 1 bicycle_final/111085122871_0.JPG", "appears twice"),
        (TEST, "99 3 1 bicycle_final/111085122871_0.JPG", "is also in Ebay_train.txt"),
        (TRAIN, "3 1 1 ../../x.JPG", "path must be a path inside the data set"),
        (TRAIN, "3 1 1 /etc/x.JPG", "path must be a path inside the data set"),
    ],
)
def test_hostile_line_is_named(archive, name, line, message):
    change_line(archive / name, 4, line)
    with pytest.raises(ValueError, match=rf"{name}', line 4: .*{message}"):
        stanford_online_products(archive)


@pytest.mark.parametrize("name", [TRAIN, TEST])
def test_other_columns_are_refused(archive, name):
    change_line(archive / name, 1, "image_id class_id path")
    with pytest.raises(
        ValueError, match=rf"{name}', line 1: must be 'image_id class_id s"
    ):
        stanford_online_products(archive)


def test_missing_test_list_is_named(archive):
    os.remove(archive / TEST)
    with pytest.raises(FileNotFoundError, match=f"no file '{archive / TEST}'; extract"):
        stanford_online_products(archive)


def test_half_extracted_images_are_named(archive):
    shutil.rmtree(archive / "chair_final")
    with pytest.raises(
        FileNotFoundError,
        match=r"^2 of 12 images .*/chair_final/.*Extract Stanford_Online_Products\.zip",
    ):
        stanford_online_products(archive)


def test_list_cut_short_says_which_counts_differ(archive):
    change_line(archive / TEST, 8, "")
    with pytest.raises(
        ValueError,
        match=r"Products' is incomplete.*; test classes: 2 found, 3 expected; "
        r"test images: 6 found, 7 expected\. Extract",
    ):
        stanford_online_products(archive)


def test_folder_without_it_says_where_to_get_it(tmp_path):
    (tmp_path / "Stanford_Online_Products.zip").touch()
    with pytest.raises(
        FileNotFoundError,
        match=r"no Ebay_train\.txt in .*Products\.zip there still to be extracted\? "
        r"Download .*https://cvgl\.stanford\.edu/projects/lifted_struct/",
    ):
        stanford_online_products(tmp_path)


def test_archive_of_the_official_size_passes_and_a_smaller_one_does_not(
    tmp_path, monkeypatch
):
    # Looking for 120,000 files would make the test slow; other tests do.
    monkeypatch.setattr(
        "keras_dml.data.datasets._archive.check_files_exist", lambda *_: None
    )
    header = "image_id class_id super_class_id path\n"
    for name, images, first, last in (
        (TRAIN, 59_551, 1, 11_318),
        (TEST, 60_502, 11_319, 22_634),
    ):
        labels = np.sort(np.arange(images) % (last - first + 1)) + first
        rows = [
            f"{row} {label} 1 chair_final/{row}{name}.JPG"
            for row, label in enumerate(labels, 1)
        ]
        (tmp_path / name).write_text(header + "\n".join(rows))
    train, test = stanford_online_products(tmp_path)
    assert (len(train.class_names), len(train)) == (11_318, 59_551)
    assert (len(test.class_names), len(test)) == (11_316, 60_502)

    change_line(tmp_path / TEST, 60_503, "")
    with pytest.raises(
        ValueError, match="; test images: 60,501 found, 60,502 expected"
    ):
        stanford_online_products(tmp_path)
