"""Where in a folder an extracted archive lies."""

import dataclasses
import io
import os
import pathlib
import posixpath
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from keras_dml.data.image_dataset import ImageDataset

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


def find_metadata(
    root: str | os.PathLike, folder: str, names: Sequence[str], remedy: str
) -> pathlib.Path:
    """Finds a data set's metadata file in `root` or in `root/folder`.

    Args:
        root: the extracted folder, or the one that it was extracted in.
        folder: the name of the folder that the archive makes.
        names: what the file may be called, relative to the extracted folder; the
            first that is there is taken.
        remedy: sentences on where to get it, for the error.

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
        remedy = f"{', '.join(archives[:9])} there may be still to extract. {remedy}"
    raise FileNotFoundError(
        f"no {' or '.join(names)} in {str(root)!r} or {str(root / folder)!r}. {remedy}"
    )


def check_counts(
    file: str | os.PathLike, found: dict[str, int], expected: dict[str, int], cause: str
) -> None:
    """Compares the counts of a data set with the official ones.

    Args:
        file: the metadata that the counts come from.
        found: by name, such as "train images".
        expected: the same names.
        cause: sentences on what is probably missing, for the error.

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
            f"{str(file)!r} is not whole, or another data set's; "
            f"{'; '.join(differing)}. {cause}"
        )


def check_files_exist(paths: Sequence[str], remedy: str) -> None:
    """Looks for every file, without opening any.

    Lists each folder once: for 120,000 files that takes a third of the time of asking
    for each, and on a network file system far less.

    Args:
        paths: files.
        remedy: a sentence on what to extract, for the error.

    Raises:
        FileNotFoundError: if some are not there; the message has the first of them and
            how many there are.
    """
    there = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in there:
            there[folder] = _files_in(folder)
        if name not in there[folder]:
            missing.append(path)
    if missing:
        raise FileNotFoundError(
            f"{len(missing):,} of {len(paths):,} images are not there; the first is "
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
    class_names: dict[int, str],
    counts: dict[str, int],
    remedy: str,
) -> tuple[ImageDataset, ImageDataset]:
    """Trains on the classes 1 to `counts["train classes"]`, tests on the others.

    Args:
        file: the metadata, for errors.
        paths: (images,) files.
        class_ids: (images,) integers from 1 to the number of both splits' classes.
        class_names: by class id, all that are in `class_ids`.
        counts: the official "train classes", "train images", "test classes" and
            "test images".
        remedy: a sentence on what to extract, for errors.

    Returns:
        (train, test).

    Raises:
        FileNotFoundError: if an image file is not there.
        ValueError: if the counts are not the official ones.
    """
    labels = np.asarray(class_ids) - 1
    in_train = labels < counts["train classes"]
    check_counts(
        file,
        {
            "train classes": len(np.unique(labels[in_train])),
            "train images": np.count_nonzero(in_train),
            "test classes": len(np.unique(labels[~in_train])),
            "test images": np.count_nonzero(~in_train),
        },
        counts,
        remedy,
    )
    check_files_exist(paths, remedy)
    names = [class_names[number] for number in range(1, labels.max() + 2)]
    everything = ImageDataset(paths, labels, names)
    first = np.arange(len(names)) < counts["train classes"]
    return everything.subset(first), everything.subset(~first)


@dataclasses.dataclass(frozen=True)
class TextTable:
    """The rows of a text file, and where each of them stands.

    Attributes:
        file: where it was read from.
        columns: by name, one value a row.
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
        return _error(self.file, self.lines[row], problem)


def read_text_table(
    file: str | os.PathLike,
    columns: dict[str, Callable[[str], object]],
    *,
    unique: Sequence[str] = (),
    header: bool = False,
    counted: bool = False,
) -> TextTable:
    """Reads a table of UTF-8 text whose columns are set apart by white space.

    A byte-order mark, any kind of line ending and blank lines are passed over.

    Args:
        file: the file.
        columns: by name and in order: what makes a value of a word, and raises a
            ValueError with what is wrong with it.
        unique: columns in which no value may come twice.
        header: whether the names of the columns stand above the rows.
        counted: whether the number of rows stands above all.

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
            raise _error(file, number, f"must be the number of rows; got {_say(words)}")
        count = int(words[0])
    if header:
        number, words = next(lines, (1, []))
        if words != list(columns):
            raise _error(file, number, f"must be {_say(columns)}; got {_say(words)}")

    values = {column: [] for column in columns}
    numbers = []
    first_line = {column: {} for column in unique}
    for number, words in lines:
        if len(words) != len(columns):
            raise _error(
                file,
                number,
                f"must have {len(columns)} columns ({', '.join(columns)}); got "
                f"{len(words)}: {_say(words)}",
            )
        for (column, parse), word in zip(columns.items(), words, strict=True):
            try:
                value = parse(word)
            except ValueError as error:
                raise _error(file, number, f"{column} {error}") from None
            if column in first_line:
                first = first_line[column].setdefault(value, number)
                if first != number:
                    problem = f"{column} {word} stands twice, first on line {first}"
                    raise _error(file, number, problem)
            values[column].append(value)
        numbers.append(number)
    if not numbers:
        raise ValueError(f"{str(file)!r} has no rows; extract the archive again.")
    if count is not None and count != len(numbers):
        raise ValueError(
            f"{str(file)!r} has {len(numbers):,} rows, but its first line promises "
            f"{count:,}; extract the archive again."
        )
    return TextTable(file, values, numbers)


def whole_number(word: str) -> int:
    """An id: a whole number from 1."""
    if not _is_number(word) or int(word) < 1:
        raise ValueError(f"must be a whole number of at least 1; got {word[:99]!r}")
    return int(word)


def relative_path(word: str) -> str:
    """A path that stays below the folder it is relative to, in its shortest form."""
    if word.startswith("/") or ".." in word.split("/") or "\0" in word:
        raise ValueError(f"must be a path inside the data set; got {word[:99]!r}")
    return posixpath.normpath(word)


def _lines_of(file):
    """The lines that are not blank: (number from 1, words)."""
    if not file.is_file():
        raise FileNotFoundError(f"no file {str(file)!r}; extract the archive again.")
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise _error(file, number, "is not UTF-8 text") from None
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        words = line.split()
        if words:
            yield number, words


def _is_number(word):
    # int() also takes signs, underscores and digits of other scripts; and, of more
    # digits than any id has, minutes.
    return word.isascii() and word.isdecimal() and len(word) < 16


def _say(words):
    return repr(" ".join(words)[:99])


def _error(file, number, problem):
    return ValueError(f"{str(file)!r}, line {number}: {problem}.")
