"""Tables in text files: columns set apart by white space."""

import dataclasses
import io
import os
import pathlib
import posixpath
from collections.abc import Callable
from collections.abc import Sequence


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
