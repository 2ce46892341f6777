import codecs
import importlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_dml.data.datasets._archive import check_counts
from keras_dml.data.datasets._archive import check_files_exist
from keras_dml.data.datasets._archive import find_metadata
from keras_dml.data.datasets._archive import parse_id
from keras_dml.data.datasets._archive import parse_path
from keras_dml.data.datasets._archive import read_text_table


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
    with pytest.raises(
        FileNotFoundError, match=r"\. Is one\.ZIP, two\.tgz there still to"
    ):
        find_metadata(tmp_path, "SET", ["a.txt"], "Download it.")


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*nowhere'\. Download it\."
    ):
        find_metadata(tmp_path / "nowhere", "SET", ["a.txt"], "Download it.")


COLUMNS = {"image_id": parse_id, "path": parse_path}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "table.txt"


def read(file, content, **options):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_text_table(file, COLUMNS, **options)


def test_columns_and_lines_are_those_of_the_file(file):
    table = read(file, "7 b/a.jpg\n3 c.jpg\n")
    assert table["image_id"] == [7, 3]
    assert table["path"] == ["b/a.jpg", "c.jpg"]
    assert table.lines == [1, 2]


@pytest.mark.parametrize(
    "content",
    [
        "1 a.jpg\n2 b.jpg",
        "1 a.jpg\r\n2 b.jpg\r\n",
        "1 a.jpg\r2 b.jpg\r",
        "\n\n1 a.jpg\n   \n\t\n2 b.jpg\n\n\n",
        "  1\ta.jpg  \n\t2   b.jpg\t\n",
        codecs.BOM_UTF8 + b"1 a.jpg\r\n\r\n2 b.jpg",
        "01 ./a.jpg\n002 .//b.jpg\n",
    ],
)
def test_line_endings_blank_lines_and_spaces_do_not_matter(file, content):
    table = read(file, content)
    assert table.columns == {"image_id": [1, 2], "path": ["a.jpg", "b.jpg"]}


def test_errors_of_a_row_count_blank_lines_too(file):
    table = read(file, "\n1 a.jpg\r\n\r\n\r\n2 b.jpg\n")
    error = table.error(1, "is odd")
    assert str(error) == f"{str(file)!r}, line 5: is odd."


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2", "2 columns .image_id, path.; got 1"),
        ("2 b.jpg c.jpg", "2 columns .image_id, path.; got 3"),
        ("b.jpg", "got 1"),
        ("\0\0\0\0", "got 1"),
        ("two b.jpg", "image_id must be a whole number of at least 1; got 'two'"),
        ("0 b.jpg", "image_id must .* got '0'"),
        ("-2 b.jpg", "image_id must .* got '-2'"),
        ("2.0 b.jpg", "image_id must .* got '2.0'"),
        ("1_0 b.jpg", "image_id must .* got '1_0'"),
        ("٣ b.jpg", "image_id must .* got '٣'"),
        ("9" * 10_000 + " b.jpg", "image_id must .* got '9{99}'"),
        ("2 ../b.jpg", r"path must be a path inside the data set; got '../b.jpg'"),
        ("2 a/../../b.jpg", "path must be a path inside"),
        ("2 ..", "path must be a path inside"),
        ("2 /b.jpg", "path must be a path inside the data set; got '/b.jpg'"),
        ("2 b\0.jpg", "path must be a path inside"),
        ("1 b.jpg", "image_id 1 appears twice, first on line 2"),
        ("001 b.jpg", "image_id 001 appears twice, first on line 2"),
        ("2 a.jpg", "path a.jpg appears twice, first on line 2"),
        ("2 ./a.jpg", "path ./a.jpg appears twice, first on line 2"),
        (b"2 \xff.jpg", "is not UTF-8 text"),
    ],
)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_hostile_line_is_named(file, line, message, ending):
    line = line if isinstance(line, bytes) else line.encode()
    content = ending.join([b"", b"1 a.jpg", b"", line, b"9 z.jpg", b""])
    with pytest.raises(ValueError, match=rf"table\.txt', line 4: .*{message}") as error:
        read(file, content, unique=("image_id", "path"))
    assert len(str(error.value)) < 400


def test_values_may_repeat_where_they_need_not_be_unique(file):
    table = read(file, "1 a.jpg\n1 b.jpg\n", unique=("path",))
    assert table["image_id"] == [1, 1]


def test_text_of_another_encoding_is_named(file):
    with pytest.raises(ValueError, match=r"table\.txt', line 1: is not UTF-8"):
        read(file, "1 a.jpg\n".encode("utf-16"))


@pytest.mark.parametrize("content", ["", "\n \r\n", codecs.BOM_UTF8])
def test_empty_file_is_named(file, content):
    with pytest.raises(ValueError, match=r"table\.txt' has no rows; extract"):
        read(file, content)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.txt'"):
        read_text_table(tmp_path / "nowhere.txt", COLUMNS)


def test_count_and_header_are_read(file):
    table = read(
        file, "\n2\r\nimage_id  path \n4 a.jpg\n\n5 b.jpg\n", counted=True, header=True
    )
    assert table["image_id"] == [4, 5]
    assert table.lines == [4, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"line 1: must be the number of rows; got ''"),
        ("many\nimage_id path\n1 a.jpg", "line 1: must be the number of rows"),
        ("2 1\nimage_id path\n1 a.jpg", "line 1: must be the number of rows"),
        ("image_id path\n1 a.jpg", "line 1: must be the number of rows"),
        ("1\n1 a.jpg", "line 2: must be 'image_id path'; got '1 a.jpg'"),
        ("1\n", "line 1: must be 'image_id path'; got ''"),
        ("1\nimage_id path kind\n1 a.jpg", "line 2: must be 'image_id path'; got"),
        ("1\nimage_id path\n", "has no rows"),
        ("2\nimage_id path\n1 a.jpg", "has 1 rows, but its first line says 2"),
        ("1\nimage_id path\n1 a.jpg\n2 b.jpg", "has 2 rows, but .* says 1"),
    ],
)
def test_wrong_count_or_header_is_named(file, content, message):
    with pytest.raises(ValueError, match=rf"table\.txt'.* ?{message}"):
        read(file, content, counted=True, header=True)


@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 10**9), st.from_regex(r"[a-z0-9_]{1,9}\.jpg", fullmatch=True)
        ),
        min_size=1,
        unique_by=(lambda row: row[0], lambda row: row[1]),
    ),
    data=st.data(),
)
def test_any_white_space_gives_the_same_table(tmp_path_factory, rows, data):
    space = st.text(" \t", min_size=1, max_size=4)
    blanks = st.text(" \t\n\r", max_size=4)
    ending = st.sampled_from(["\n", "\r\n", "\r"])
    text = ""
    for number, path in rows:
        text += data.draw(blanks) + str(number) + data.draw(space) + path
        text += data.draw(st.text(" \t", max_size=3)) + data.draw(ending)
    file = tmp_path_factory.mktemp("tables") / "table.txt"
    table = read(file, text, unique=("image_id", "path"))
    assert list(zip(table["image_id"], table["path"], strict=True)) == rows


EXPECTED_COUNTS = {"train classes": 100, "train images": 5864, "test images": 5924}


def test_official_counts_pass():
    check_counts(
        "list.txt",
        dict(reversed(EXPECTED_COUNTS.items())),
        EXPECTED_COUNTS,
        "Extract it.",
    )


def test_each_differing_count_is_named():
    found = {**EXPECTED_COUNTS, "train images": 5000, "test images": 10_000}
    with pytest.raises(ValueError) as error:
        check_counts("list.txt", found, EXPECTED_COUNTS, "Extract it.")
    assert str(error.value) == (
        "'list.txt' is incomplete, or of another data set; train images: 5,000 found, "
        "5,864 expected; test images: 10,000 found, 5,924 expected. Extract it."
    )


@pytest.fixture
def paths(tmp_path):
    paths = [f"{tmp_path}/{folder}/{name}.jpg" for folder in "ab" for name in "xyz"]
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()
    return paths


def test_files_that_exist_pass(paths):
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
        f"{len(missing)} of 6 images are missing; the first is "
        f"{paths[missing[0]]!r}. Do this."
    )


def test_missing_folder_a_file_for_a_folder_and_a_folder_for_a_file(paths, tmp_path):
    os.mkdir(tmp_path / "a" / "folder.jpg")
    asked = [f"{tmp_path}/nowhere/x.jpg", f"{paths[0]}/x.jpg"]
    asked += [f"{tmp_path}/a/folder.jpg", *paths]
    with pytest.raises(FileNotFoundError, match=r"^3 of 9 .*nowhere"):
        check_files_exist(asked, "")


@pytest.mark.parametrize(
    ("loader", "counts"),
    [
        ("cub200", {"train": (100, 5_864), "test": (100, 5_924)}),
        ("cars196", {"train": (98, 8_054), "test": (98, 8_131)}),
        (
            "stanford_online_products",
            {"train": (11_318, 59_551), "test": (11_316, 60_502)},
        ),
        (
            "in_shop",
            {
                "train": (3_997, 25_882),
                "query": (3_985, 14_218),
                "gallery": (3_985, 12_612),
            },
        ),
    ],
)
def test_official_counts_are_the_papers(loader, counts):
    # The package's attribute of that name is the function.
    found = dict(
        importlib.import_module(f"keras_dml.data.datasets.{loader}").OFFICIAL_COUNTS
    )
    for part, (classes, images) in counts.items():
        assert found.pop(f"{part} classes") == classes
        assert found.pop(f"{part} images") == images
    assert found == ({"test classes": 3_985} if loader == "in_shop" else {})
