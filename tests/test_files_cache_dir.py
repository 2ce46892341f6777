import pathlib

from keras_dml._files import default_cache_dir


def test_environment_names_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_DML_CACHE", str(tmp_path / "here"))
    assert default_cache_dir() == tmp_path / "here"


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_DML_CACHE", "~/kept")
    assert default_cache_dir() == tmp_path / "kept"


def test_cache_is_in_the_home_by_default(monkeypatch):
    monkeypatch.delenv("KERAS_DML_CACHE")
    assert default_cache_dir() == pathlib.Path.home() / ".cache" / "keras_dml"
