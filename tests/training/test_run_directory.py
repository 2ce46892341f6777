import os
import pathlib

import pytest

from keras_dml.training import new_run_directory


def test_new_folder_is_made_with_its_parents(tmp_path):
    run = new_run_directory(str(tmp_path / "runs" / "one"))
    assert isinstance(run, pathlib.Path)
    assert run == tmp_path / "runs" / "one"
    assert run.is_dir()


def test_empty_folder_is_used(tmp_path):
    assert new_run_directory(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["metrics.json", ".hidden"])
def test_folder_with_anything_in_it_is_refused(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(
        FileExistsError, match=r"not empty\. Name another, or delete it"
    ):
        new_run_directory(tmp_path)
    assert os.listdir(tmp_path) == [name]


def test_file_in_the_way_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(NotADirectoryError, match=r"run' is a file"):
        new_run_directory(tmp_path / "run")
