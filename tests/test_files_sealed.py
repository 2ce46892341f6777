import json

import pytest

from keras_dml._files import read_sealed_folder
from keras_dml._files import write_sealed_folder


def write(folder):
    (folder / "inner").mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "inner" / "b.txt").write_text("b")


@pytest.fixture
def folder(tmp_path):
    write_sealed_folder(tmp_path / "deep" / "folder", {"kind": "Grüße"}, write)
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
        write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sealed_folder(tmp_path / "folder", {}, interrupted)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_seen_under_the_name_until_all_is_written(tmp_path):
    def look(folder):
        write(folder)
        assert not (tmp_path / "folder").exists()

    write_sealed_folder(tmp_path / "folder", {}, look)
    assert (tmp_path / "folder" / "index.json").is_file()


def test_existing_folder_is_not_touched(folder):
    with pytest.raises(FileExistsError, match="exists already"):
        write_sealed_folder(folder, {}, write)
    read_sealed_folder(folder)


def test_link_that_leads_nowhere_is_named_and_kept(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="link' is a link that leads nowhere"):
        write_sealed_folder(link, {}, write)
    assert list(tmp_path.iterdir()) == [link]


def test_name_that_is_too_long_is_named(tmp_path):
    write_sealed_folder(tmp_path / ("x" * 245), {}, write)
    with pytest.raises(OSError, match=r"^folder='.*x' cannot be made in"):
        write_sealed_folder(tmp_path / ("x" * 246), {}, write)


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
