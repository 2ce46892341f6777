import pytest

from keras_dml.data.datasets._archive import find_metadata


def test_file_is_found_in_the_folder_or_in_the_archives_own(tmp_path):
    inner = tmp_path / "SET" / "Eval"
    inner.mkdir(parents=True)
    (inner / "list.txt").touch()
    names = ["list.txt", "Eval/list.txt"]
    for root in (tmp_path, str(tmp_path / "SET")):
        assert find_metadata(root, "SET", names, "") == inner / "list.txt"
    (tmp_path / "list.txt").touch()
    assert find_metadata(tmp_path, "SET", names, "") == tmp_path / "list.txt"


def test_where_it_was_looked_for_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        find_metadata(tmp_path, "SET", ["a.txt", "b.txt"], "Download it.")
    assert str(error.value) == (
        f"no a.txt or b.txt in {str(tmp_path)!r} or {str(tmp_path / 'SET')!r}. "
        "Download it."
    )


def test_archives_that_were_not_extracted_are_named(tmp_path):
    for name in ("two.tgz", "one.ZIP", "zip.txt"):
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"\. one\.ZIP, two\.tgz there may be"):
        find_metadata(tmp_path, "SET", ["a.txt"], "Download it.")


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*nowhere'\. Download it\."
    ):
        find_metadata(tmp_path / "nowhere", "SET", ["a.txt"], "Download it.")
