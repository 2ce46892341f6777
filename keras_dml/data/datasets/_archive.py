"""Reading the metadata of official archives.

`cub200`, `cars196`, `in_shop` and `stanford_online_products` all work alike: they find
the metadata in the extracted archive (`find_metadata`), parse it (`read_text_table`;
Cars-196 has .mat files instead), compare the counts of classes and images with the
official ones (`check_counts`), make sure that every image file exists
(`check_files_exist`), and split by class (`split_at_class`). Errors name the file, the
line and the remedy. Images are never decoded.
"""

from __future__ import annotations

import dataclasses
import io
import os
import pathlib
import posixpath
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_dml.data.image_dataset import ImageDataset

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_MOST_DIGITS = 15


def find_metadata(
    root: str | os.PathLike, folder: str, names: Sequence[str], remedy: str
) -> pathlib.Path:
    """Finds a data set's metadata file in `root` or in `root/folder`.

    Args:
        root: the extracted folder, or the one that it was extracted in.
        folder: the name of the folder that the archive makes.
        names: what the file may be called, relative to the extracted folder; the
            first that exists is taken.
        remedy: sentences on where to get it, for the error message.

    Returns:
        The file.

    Raises:
        FileNotFoundError: if there is none.
    """
    root = pathlib.Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {str(root)!r}. {remedy}")
    for extracted in (root, root / folder):
        for name in names:
            if (extracted / name).is_file():
                return extracted / name
    archives = sorted(
        path.name for path in root.iterdir() if path.name.lower().endswith(_ARCHIVES)
    )
    if archives:
        remedy = f"Is {', '.join(archives[:9])} there still to be extracted? {remedy}"
    raise FileNotFoundError(
        f"no {' or '.join(names)} in {str(root)!r} or {str(root / folder)!r}. {remedy}"
    )


@dataclasses.dataclass(frozen=True)
class TextTable:
    """The rows of a text file, and the line that each of them is on.

    Attributes:
        file: where it was read from.
        columns: by name, one value for each row.
        lines: the number of each row's line, from 1.
    """

    file: pathlib.Path
    columns: dict[str, list]
    lines: list[int]

    def __getitem__(self, column: str) -> list:
        """The values of a column."""
        return self.columns[column]

    def error(self, row: int, problem: str) -> ValueError:
        """An error that names the file and the line of a row, counted from 0."""
        return _line_error(self.file, self.lines[row], problem)


def read_text_table(
    file: str | os.PathLike,
    columns: Mapping[str, Callable[[str], Any]],
    *,
    unique: Sequence[str] = (),
    header: bool = False,
    counted: bool = False,
) -> TextTable:
    """Reads a table of UTF-8 text whose columns are separated by white space.

    A byte-order mark and blank lines are ignored; line endings may be of any kind.

    Args:
        file: the file.
        columns: by name and in order: a function that turns a word into a value, or
            raises a ValueError that says what is wrong with it.
        unique: columns in which no value may appear twice.
        header: whether the line above the rows holds the names of the columns.
        counted: whether the first line of all holds the number of rows.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line isn't as described, or there are no rows; the message
            names the file and the line.
    """
    file = pathlib.Path(file)
    lines = _lines_of(file)
    count = None
    if counted:
        number, words = next(lines, (1, []))
        if len(words) != 1 or not _is_number(words[0]):
            problem = f"must be the number of rows; got {_quoted(words)}"
            raise _line_error(file, number, problem)
        count = int(words[0])
    if header:
        number, words = next(lines, (1, []))
        if words != list(columns):
            problem = f"must be {_quoted(columns)}; got {_quoted(words)}"
            raise _line_error(file, number, problem)

    values: dict[str, list] = {column: [] for column in columns}
    numbers = []
    first_line: dict[str, dict[Any, int]] = {column: {} for column in unique}
    for number, words in lines:
        if len(words) != len(columns):
            raise _line_error(
                file,
                number,
                f"must have {len(columns)} columns ({', '.join(columns)}); got "
                f"{len(words)}: {_quoted(words)}",
            )
        for (column, parse), word in zip(columns.items(), words, strict=True):
            try:
                value = parse(word)
            except ValueError as error:
                raise _line_error(file, number, f"{column} {error}") from None
            if column in first_line:
                first = first_line[column].setdefault(value, number)
                if first != number:
                    problem = f"{column} {word} appears twice, first on line {first}"
                    raise _line_error(file, number, problem)
            values[column].append(value)
        numbers.append(number)
    if not numbers:
        raise ValueError(f"{str(file)!r} has no rows; extract the archive again.")
    if count is not None and count != len(numbers):
        raise ValueError(
            f"{str(file)!r} has {len(numbers):,} rows, but its first line says "
            f"{count:,}; extract the archive again."
        )
    return TextTable(file, values, numbers)


def parse_id(word: str) -> int:
    """Parses an id of an image or a class: a whole number from 1."""
    if not _is_number(word) or int(word) < 1:
        raise ValueError(f"must be a whole number of at least 1; got {word[:99]!r}")
    return int(word)


def parse_path(word: str) -> str:
    """Parses a path inside the data set; "./a//b.jpg" gives "a/b.jpg"."""
    if word.startswith("/") or ".." in word.split("/") or "\0" in word:
        raise ValueError(f"must be a path inside the data set; got {word[:99]!r}")
    return posixpath.normpath(word)


def _lines_of(file: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not blank: (number from 1, words)."""
    if not file.is_file():
        raise FileNotFoundError(f"no file {str(file)!r}; extract the archive again.")
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise _line_error(file, number, "is not UTF-8 text") from None
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        words = line.split()
        if words:
            yield number, words


def _is_number(word):
    # int() also takes signs, underscores and digits of other scripts, and needs minutes
    # for more digits than any id has.
    return word.isascii() and word.isdecimal() and len(word) <= _MOST_DIGITS


def _quoted(words):
    return repr(" ".join(words)[:99])


def _line_error(file, number, problem):
    return ValueError(f"{str(file)!r}, line {number}: {problem}.")


def check_counts(
    file: str | os.PathLike,
    found: Mapping[str, int],
    expected: Mapping[str, int],
    remedy: str,
) -> None:
    """Compares the counts of a data set with the official ones.

    Args:
        file: the metadata that the counts come from.
        found: by name, such as "train images".
        expected: the same names.
        remedy: sentences on what is probably missing, for the error message.

    Raises:
        ValueError: if a count differs; the message has each that does.
    """
    differing = [
        f"{name}: {found[name]:,} found, {count:,} expected"
        for name, count in expected.items()
        if found[name] != count
    ]
    if differing:
        raise ValueError(
            f"{str(file)!r} is incomplete, or of another data set; "
            f"{'; '.join(differing)}. {remedy}"
        )


def check_files_exist(paths: Sequence[str], remedy: str) -> None:
    """Makes sure that every file exists, without opening any.

    Lists each folder once: for 120,000 files that takes a third of the time of asking
    for each, and on a network file system far less.

    Args:
        paths: files.
        remedy: a sentence on what to extract, for the error message.

    Raises:
        FileNotFoundError: if some are missing; the message has the first of them and
            how many there are.
    """
    files_in: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in files_in:
            files_in[folder] = _files_in(folder)
        if name not in files_in[folder]:
            missing.append(path)
    if missing:
        raise FileNotFoundError(
            f"{len(missing):,} of {len(paths):,} images are missing; the first is "
            f"{missing[0]!r}. {remedy}"
        )


def _files_in(folder):
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def split_at_class(
    file: str | os.PathLike,
    paths: Sequence[str],
    class_ids: Sequence[int],
    class_names: Mapping[int, str],
    counts: Mapping[str, int],
    remedy: str,
) -> tuple[ImageDataset, ImageDataset]:
    """Puts the first classes in the training set and the others in the test set.

    Args:
        file: the metadata, for error messages.
        paths: (images,) files.
        class_ids: (images,) integers from 1 to the number of classes of both sets.
        class_names: by class id, all that are in `class_ids`.
        counts: the official "train classes", "train images", "test classes" and
            "test images". The classes 1 to `counts["train classes"]` are trained on.
        remedy: a sentence on what to extract, for error messages.

    Returns:
        (train, test).

    Raises:
        FileNotFoundError: if an image file is missing.
        ValueError: if the counts are not the official ones.
    """
    labels = np.asarray(class_ids) - 1
    in_train = labels < counts["train classes"]
    check_counts(
        file,
        {
            "train classes": len(np.unique(labels[in_train])),
            "train images": int(np.count_nonzero(in_train)),
            "test classes": len(np.unique(labels[~in_train])),
            "test images": int(np.count_nonzero(~in_train)),
        },
        counts,
        remedy,
    )
    check_files_exist(paths, remedy)
    names = tuple(class_names[number] for number in range(1, labels.max() + 2))
    both = ImageDataset(np.asarray(paths), labels, names)
    is_train_class = np.arange(len(names)) < counts["train classes"]
    return both.subset(is_train_class), both.subset(~is_train_class)
