import json
import os
import pathlib

import pytest

from keras_dml._files import write_json
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


def test_json_is_written_readable(tmp_path):
    content = {"Grüße": [1, 0.1, None, True], "猫": {"a": "b"}}
    write_json(str(tmp_path / "content.json"), content)
    text = (tmp_path / "content.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert "Grüße" in text and "猫" in text
    assert text.endswith("}\n") and len(text.splitlines()) > 5
    assert (tmp_path / "content.json").stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["content.json"]


def test_json_replaces_the_file_before(tmp_path):
    write_json(tmp_path / "content.json", list(range(1000)))
    write_json(tmp_path / "content.json", [1])
    assert json.loads((tmp_path / "content.json").read_text()) == [1]


def test_json_that_fails_half_way_leaves_the_file_before(tmp_path):
    write_json(tmp_path / "content.json", {"whole": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "content.json", {"a": [1] * 10**5, "b": object()})
    assert json.loads((tmp_path / "content.json").read_text()) == {"whole": 1}
    assert os.listdir(tmp_path) == ["content.json"]


def test_json_appears_by_renaming(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_json(tmp_path / "content.json", {})
    assert os.listdir(tmp_path) == []
