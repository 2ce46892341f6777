import os
import threading

import pytest

from keras_dml._files import cached_folder


def write(text):
    return lambda folder: (folder / "file.txt").write_text(text)


def test_folder_is_made_with_its_parents(tmp_path):
    folder = tmp_path / "a" / "b"
    assert cached_folder(folder, write("one")) == folder
    assert (folder / "file.txt").read_text() == "one"
    assert os.listdir(folder.parent) == ["b"]


def test_folder_that_is_there_is_not_made_again(tmp_path):
    cached_folder(tmp_path / "a", write("one"))
    cached_folder(tmp_path / "a", write("two"))
    assert (tmp_path / "a" / "file.txt").read_text() == "one"


def test_folder_is_readable_by_others(tmp_path):
    assert cached_folder(tmp_path / "a", write("")).stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_when_making_fails(tmp_path, error):
    def fail(folder):
        (folder / "half.txt").write_text("half")
        raise error

    with pytest.raises(error):
        cached_folder(tmp_path / "a", fail)
    assert os.listdir(tmp_path) == []
    cached_folder(tmp_path / "a", write("whole"))
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
        cached_folder(tmp_path / "a", write("one"))
    assert os.listdir(tmp_path) == ["a"]
