"""The Lance table of a gallery: its columns, and values in and out of them."""

import datetime
import json
import os
import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

METADATA = b"keras_dml"
"""Where the table's schema says what the gallery is of."""

_TAKEN = ("id", "class", "embedding", "code", "query_index")
_NO_LANCEDB = 'a gallery that grows needs LanceDB: pip install "keras_dml[gallery]"'


def connect(uri: str) -> Any:
    """Opens a folder or a place on object storage as a database of LanceDB.

    Raises:
        ImportError: if LanceDB is not installed.
        ValueError: if LanceDB knows no such kind of storage.
    """
    # It logs what is no fault, such as that a table is made anew.
    os.environ.setdefault("LANCEDB_LOG", "error")
    try:
        import lancedb
    except ImportError:
        raise ImportError(_NO_LANCEDB) from None
    # So that each search sees what other processes have committed.
    try:
        return lancedb.connect(uri, read_consistency_interval=datetime.timedelta(0))
    except ValueError as error:
        raise ValueError(f"no gallery can be at {uri!r}: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """What LanceDB says, without the place in its source."""
    return re.split(r"\n|, /\S*\.rs:", str(error))[0]


def gallery_schema(about: Mapping[str, Any], columns: Mapping[str, type]) -> Any:
    """The columns of a gallery's table, as an arrow schema.

    Args:
        about: what the gallery is of, kept with the schema; `dim` among it.
        columns: the columns that not every gallery has, with their Python type.

    Raises:
        ValueError: if a column has another type or a name that is taken.
        ImportError: if LanceDB, which brings pyarrow, is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise ImportError(_NO_LANCEDB) from None
    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    for name, kind in columns.items():
        is_name = isinstance(name, str) and re.fullmatch(r"[^\W_][^.`\n]*", name)
        if not is_name or name in _TAKEN or kind not in types:
            raise ValueError(
                f"columns must be names that start with a letter or digit and have no "
                f"point or backtick, other than {', '.join(_TAKEN)}, each with str, "
                f"int, float or bool; got {name!r}: {kind!r}."
            )
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("class", pa.string()),
        pa.field("embedding", pa.list_(pa.float32(), about["dim"])),
        pa.field("code", pa.list_(pa.uint8(), -(-about["dim"] // 8))),
        *(pa.field(name, types[kind]) for name, kind in columns.items()),
    ]
    return pa.schema(fields, metadata={METADATA: json.dumps(about)})


def scalar_column(values: Any, name: str, kind: Any, rows: int) -> Any:
    """Values of one column as an arrow array.

    Args:
        values: a sequence or an array.
        name: of the column, for the error message.
        kind: its arrow type.
        rows: how many values there must be.

    Raises:
        ValueError: if there are more or fewer, one is of another type or None, or an
            id is empty.
    """
    import pyarrow as pa

    if isinstance(values, str | bytes) or not isinstance(values, Sequence | np.ndarray):
        raise ValueError(
            f"{name} must have a value for each of the {rows} images; got "
            f"{values!r:.200}. Give a list."
        )
    values = [
        one.item()
        if isinstance(one, np.generic)
        else os.fspath(one)
        if isinstance(one, os.PathLike)
        else one
        for one in values
    ]
    if len(values) != rows:
        raise ValueError(
            f"{name} must have a value for each of the {rows} images; got "
            f"{len(values)}."
        )
    if name == "id" and (None in values or "" in values):
        raise ValueError("ids must not be empty.")
    if None in values:
        raise ValueError(f"{name} must have a value for each image; got None.")
    right, said = {
        pa.string(): (str, "text"),
        pa.int64(): (int, "integers"),
        pa.float64(): (float | int, "numbers"),
        pa.bool_(): (bool, "True or False"),
    }[kind]
    for value in values:
        is_flag = isinstance(value, bool)
        if not isinstance(value, right) or is_flag != (right is bool):
            raise ValueError(f"{name} must hold {said}; got {value!r:.200}.")
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(f"{name} must hold values of {kind}: {error}") from None


def vector_column(rows: np.ndarray) -> Any:
    """Rows of one length as an arrow array of lists."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def as_numpy(column: Any) -> np.ndarray:
    """A column of an arrow table; lists of one length as rows."""
    column = column.combine_chunks()
    if not hasattr(column.type, "list_size"):
        return column.to_numpy(zero_copy_only=False)
    values = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), column.type.list_size)


def quoted(text: str) -> str:
    """A string as SQL has it."""
    return "'" + str(text).replace("'", "''") + "'"
