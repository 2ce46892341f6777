import os

import pytest

from keras_dml.data.datasets._archive import check_files_exist


@pytest.fixture
def paths(tmp_path):
    paths = [f"{tmp_path}/{folder}/{name}.jpg" for folder in "ab" for name in "xyz"]
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()
    return paths


def test_files_that_are_there_pass(paths):
    check_files_exist(paths, "")


def test_links_count_as_what_they_lead_to(paths, tmp_path):
    os.symlink(paths[0], tmp_path / "good.jpg")
    os.symlink(tmp_path / "nowhere", tmp_path / "broken.jpg")
    os.symlink(tmp_path / "a", tmp_path / "c")
    check_files_exist([f"{tmp_path}/good.jpg", f"{tmp_path}/c/y.jpg"], "")
    with pytest.raises(FileNotFoundError, match=r"broken\.jpg"):
        check_files_exist([f"{tmp_path}/good.jpg", f"{tmp_path}/broken.jpg"], "")


@pytest.mark.parametrize("missing", [[0], [5], [1, 4], [3, 4, 5], range(6)])
def test_first_missing_file_and_their_number_are_named(paths, missing):
    for row in missing:
        os.remove(paths[row])
    with pytest.raises(FileNotFoundError) as error:
        check_files_exist(paths, "Do this.")
    assert str(error.value) == (
        f"{len(missing)} of 6 images are not there; the first is "
        f"{paths[missing[0]]!r}. Do this."
    )


def test_missing_folder_a_file_for_a_folder_and_a_folder_for_a_file(paths, tmp_path):
    os.mkdir(tmp_path / "a" / "folder.jpg")
    asked = [f"{tmp_path}/nowhere/x.jpg", f"{paths[0]}/x.jpg"]
    asked += [f"{tmp_path}/a/folder.jpg", *paths]
    with pytest.raises(FileNotFoundError, match=r"^3 of 9 .*nowhere"):
        check_files_exist(asked, "")
