"""The record of a corpus, which says what its shards are of, and what was rejected."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping

from keras_dml._files import atomic_file
from keras_dml._files import check_new_folder
from keras_dml._files import locked
from keras_dml._files import remove_unfinished
from keras_dml._files import write_json

RECORD_FILE = "corpus.json"
"""Written before the first shard."""

SHARDS = "shards"
"""The folder of the shards in that of the corpus."""

_FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Record:
    """What a corpus is of.

    Attributes:
        sha256: of the model's file.
        dim: width of the embeddings.
        image_size: side of the images that the model takes, in pixels.
        resize: side that they were resized to before the crop.
        images: how many there are, with those that are rejected.
        shards: the names of the files, which follow from the images and the model.
    """

    sha256: str
    dim: int
    image_size: int
    resize: int
    images: int
    shards: tuple[str, ...]


@contextlib.contextmanager
def corpus_folder(output: str, record: Record) -> Iterator[None]:
    """Makes the folder of a corpus, or opens it to go on, and keeps others from it.

    Args:
        output: the folder; new, empty, or one of the same record.
        record: what is to be in it.

    Raises:
        FileExistsError: if it holds something else.
        ValueError: if it holds a corpus of another model or of other images.
        OSError: if it can't be made, is damaged, or another process is writing it.
    """
    folder = pathlib.Path(output)
    if not folder.is_dir():
        check_new_folder(output, "--output")
    elif (folder / RECORD_FILE).is_file():
        _check_same(output, read_record(output), record)
    elif any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise FileExistsError(
            f"--output={output!r} holds other files. Name a new folder."
        )
    (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except BlockingIOError:
            raise OSError(
                f"another program is writing --output={output!r}. Wait for its end."
            ) from None
        if not (folder / RECORD_FILE).is_file():
            content = {"format_version": _FORMAT_VERSION, **dataclasses.asdict(record)}
            write_json(folder / RECORD_FILE, content)
        yield
        remove_unfinished(folder / SHARDS)


def _check_same(output, there, record):
    made_with = (there.sha256, there.resize)
    if made_with != (record.sha256, record.resize):
        raise ValueError(
            f"--output={output!r} was made with another model than --run has now. Name "
            "a new folder."
        )
    if there.shards != record.shards:
        raise ValueError(
            f"--output={output!r} holds a corpus of {there.images:,} images; --images "
            f"lists {record.images:,}, which are others, in another order, or have "
            "changed. Name a new folder."
        )


def read_record(corpus: str) -> Record:
    """Reads the record of a corpus.

    Args:
        corpus: the folder.

    Raises:
        FileNotFoundError: if it is none.
        ValueError: if the record is damaged or of another version.
    """
    file = pathlib.Path(corpus) / RECORD_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{str(corpus)!r} holds no corpus: no {RECORD_FILE}. Name a folder that "
            "experiments.embed_corpus wrote."
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("format_version") != _FORMAT_VERSION:
            raise ValueError("it is of another version")
        record = Record(**content)
        return dataclasses.replace(record, shards=tuple(record.shards))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(file)!r} is damaged: {error}. Embed the images into a new folder."
        ) from None


def write_rejected(corpus: str, rejected: Mapping[str, str]) -> pathlib.Path:
    """Writes rejected.parquet, and rejected.txt: path, tab and reason on each line.

    Args:
        corpus: the folder.
        rejected: {path: reason}.

    Returns:
        The text file.
    """
    import pyarrow as pa
    import pyarrow.parquet

    columns = {"path": [*rejected], "reason": [*rejected.values()]}
    schema = pa.schema({"path": pa.string(), "reason": pa.string()})
    with atomic_file(pathlib.Path(corpus) / "rejected.parquet") as unfinished:
        pa.parquet.write_table(pa.table(columns, schema=schema), unfinished)
    file = pathlib.Path(corpus) / "rejected.txt"
    with atomic_file(file) as unfinished:
        lines = (f"{path}\t{reason}\n" for path, reason in rejected.items())
        unfinished.write_text("".join(lines), encoding="utf-8")
    return file


def sha256_of_file(file: str | os.PathLike) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
