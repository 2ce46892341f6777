import json
import os
import pathlib
import threading

import pytest

from keras_dml._files import atomic_file
from keras_dml._files import atomic_folder
from keras_dml._files import cached_folder
from keras_dml._files import check_new_folder
from keras_dml._files import default_cache_dir
from keras_dml._files import read_sealed_folder
from keras_dml._files import write_json
from keras_dml._files import write_sealed_folder


@pytest.mark.parametrize("before", [None, "old"])
def test_file_appears_under_its_name_when_it_is_whole(tmp_path, before):
    file = tmp_path / "a.txt"
    if before is not None:
        file.write_text(before)
    with atomic_file(str(file)) as unfinished:
        assert unfinished.name == "a.txt"
        unfinished.write_text("half")
        assert (file.read_text() if file.exists() else None) == before
        unfinished.write_text("whole")
    assert file.read_text() == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [[], ["a.txt"]])
def test_failed_file_leaves_what_was_there(tmp_path, error, before):
    for name in before:
        (tmp_path / name).write_text("old")
    with pytest.raises(error), atomic_file(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("half")
        raise error
    assert os.listdir(tmp_path) == before
    assert [(tmp_path / name).read_text() for name in before] == ["old"] * len(before)


def test_file_that_was_not_written_is_an_error_and_leaves_what_was_there(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "a.txt"):
        pass
    assert os.listdir(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_file_cannot_replace_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with (
        pytest.raises(IsADirectoryError),
        atomic_file(tmp_path / "a") as unfinished,
    ):
        unfinished.write_text("whole")
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == []


def test_file_needs_its_folder(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "no" / "a.txt"):
        pass
    assert os.listdir(tmp_path) == []


def test_folder_appears_under_its_name_when_it_is_whole(tmp_path):
    folder = tmp_path / "deep" / "a"
    with atomic_folder(str(folder)) as unfinished:
        assert unfinished.name == "a"
        assert os.listdir(unfinished) == []
        (unfinished / "inner").mkdir()
        (unfinished / "inner" / "file.txt").write_text("whole")
        assert not folder.exists()
    assert (folder / "inner" / "file.txt").read_text() == "whole"
    assert os.listdir(folder.parent) == ["a"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_unfinished_folder_is_hidden_and_closed_to_others(tmp_path):
    with atomic_folder(tmp_path / "1"):
        (hidden,) = tmp_path.iterdir()
        assert hidden.name.startswith(".1.")
        assert hidden.stat().st_mode & 0o777 == 0o700


def test_folder_has_the_permissions_of_any_new_folder(tmp_path):
    before = os.umask(0o077)
    try:
        with atomic_folder(tmp_path / "a") as unfinished:
            (unfinished / "file.txt").write_text("mine")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failed_folder_leaves_nothing(tmp_path, error):
    with pytest.raises(error), atomic_folder(tmp_path / "a") as unfinished:
        (unfinished / "half.txt").write_text("half")
        raise error
    assert os.listdir(tmp_path) == []


def test_folder_made_meanwhile_is_kept(tmp_path):
    with pytest.raises(OSError), atomic_folder(tmp_path / "a") as unfinished:
        (unfinished / "file.txt").write_text("late")
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "file.txt").write_text("first")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a" / "file.txt").read_text() == "first"


def test_atomic_folders_nest(tmp_path):
    with atomic_folder(tmp_path / "a") as outer, atomic_folder(outer / "b") as inner:
        (inner / "file.txt").write_text("whole")
    assert os.listdir(tmp_path / "a") == ["b"]
    assert os.listdir(tmp_path / "a" / "b") == ["file.txt"]


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


@pytest.mark.parametrize("name", ["a", "new/parents/a"])
def test_folder_that_can_be_made_passes_and_is_not_made(tmp_path, name):
    check_new_folder(str(tmp_path / name), "folder")
    assert os.listdir(tmp_path) == []


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


def write_text(text):
    return lambda folder: (folder / "file.txt").write_text(text)


def test_folder_is_made_with_its_parents(tmp_path):
    folder = tmp_path / "a" / "b"
    assert cached_folder(folder, write_text("one")) == folder
    assert (folder / "file.txt").read_text() == "one"
    assert os.listdir(folder.parent) == ["b"]


def test_folder_that_is_there_is_not_made_again(tmp_path):
    cached_folder(tmp_path / "a", write_text("one"))
    cached_folder(tmp_path / "a", write_text("two"))
    assert (tmp_path / "a" / "file.txt").read_text() == "one"


def test_folder_is_readable_by_others(tmp_path):
    assert cached_folder(tmp_path / "a", write_text("")).stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_when_making_fails(tmp_path, error):
    def fail(folder):
        (folder / "half.txt").write_text("half")
        raise error

    with pytest.raises(error):
        cached_folder(tmp_path / "a", fail)
    assert os.listdir(tmp_path) == []
    cached_folder(tmp_path / "a", write_text("whole"))
    assert os.listdir(tmp_path / "a") == ["file.txt"]


def test_folder_is_not_there_before_it_is_whole(tmp_path):
    seen = []
    cached_folder(tmp_path / "a", lambda _: seen.append((tmp_path / "a").exists()))
    assert seen == [False]


def test_one_of_two_that_make_it_at_once_wins_and_both_find_it(tmp_path):
    both_have_begun = threading.Barrier(2, timeout=10)
    found = {}

    def run(name):
        def make(folder):
            for half in ("first", "second"):
                (folder / half).write_text(name)
            both_have_begun.wait()

        found[name] = cached_folder(tmp_path / "a", make)

    threads = [threading.Thread(target=run, args=(name,)) for name in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys("xy", tmp_path / "a")
    halves = [(tmp_path / "a" / half).read_text() for half in ("first", "second")]
    assert halves in (["x", "x"], ["y", "y"])
    assert os.listdir(tmp_path) == ["a"]


def test_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(OSError):
        cached_folder(tmp_path / "a", write_text("one"))
    assert os.listdir(tmp_path) == ["a"]


def write_two_files(folder):
    (folder / "inner").mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "inner" / "b.txt").write_text("b")


@pytest.fixture
def folder(tmp_path):
    write_sealed_folder(
        tmp_path / "deep" / "folder", {"kind": "Grüße"}, write_two_files
    )
    return tmp_path / "deep" / "folder"


def test_record_lists_every_file_with_its_checksum(folder):
    record = read_sealed_folder(str(folder))
    assert record["kind"] == "Grüße"
    assert record["files"] == {  # as `printf a | sha256sum` says
        "a.txt": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        "inner/b.txt": (
            "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"
        ),
    }


def test_nothing_is_left_beside_the_folder(folder):
    assert list(folder.parent.iterdir()) == [folder]


def test_interrupted_writing_leaves_nothing(tmp_path):
    def interrupted(folder):
        write_two_files(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sealed_folder(tmp_path / "folder", {}, interrupted)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_seen_under_the_name_until_all_is_written(tmp_path):
    def look(folder):
        write_two_files(folder)
        assert not (tmp_path / "folder").exists()

    write_sealed_folder(tmp_path / "folder", {}, look)
    assert (tmp_path / "folder" / "index.json").is_file()


def test_existing_folder_is_not_touched(folder):
    with pytest.raises(FileExistsError, match="exists already"):
        write_sealed_folder(folder, {}, write_two_files)
    read_sealed_folder(folder)


def test_broken_link_is_named_and_kept(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="link' is a broken link"):
        write_sealed_folder(link, {}, write_two_files)
    assert list(tmp_path.iterdir()) == [link]


def test_name_that_is_too_long_is_named(tmp_path):
    write_sealed_folder(tmp_path / ("x" * 234), {}, write_two_files)
    with pytest.raises(OSError, match=r"^folder='.*x' cannot be made in"):
        write_sealed_folder(tmp_path / ("x" * 235), {}, write_two_files)


@pytest.mark.parametrize("place", ["file", "file/deep", "link/deep"])
def test_folder_that_cannot_be_made_is_named_before_the_work(tmp_path, place):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    folder = tmp_path / place / "folder"
    above = tmp_path / place.split("/")[0]
    message = f"^folder='{folder}' cannot be made in '{above}': N"
    with pytest.raises(OSError, match=message):
        write_sealed_folder(folder, {}, None)
    assert len(list(tmp_path.iterdir())) == 2


def test_file_in_a_subfolder_is_covered(folder):
    (folder / "inner" / "b.txt").write_text("c")
    with pytest.raises(ValueError, match=r"b\.txt has SHA-256 2e7d2c03"):
        read_sealed_folder(folder)


def test_files_beside_it_are_ignored(folder):
    (folder / ".DS_Store").write_text("")
    read_sealed_folder(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 10**5, "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "format_version = None; only 2 can be read"),
        ('{"format_version": 1}', "format_version = 1; only 2 can be read"),
        ('{"format_version": 2}', "has been changed"),
    ],
)
def test_record_that_is_no_record_is_refused(folder, text, message):
    (folder / "index.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_sealed_folder(folder)


def test_reordered_record_says_the_same(folder):
    file = folder / "index.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(dict(reversed(record.items()))))
    assert read_sealed_folder(folder) == record
