"""Folders of files that appear whole, and are read back only if whole."""

import hashlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from keras_dml.evaluation.check_new_folder import check_new_folder

RECORD_FILE = "index.json"

_FORMAT_VERSION = 2


def write_sealed_folder(
    folder: str | os.PathLike,
    record: Mapping[str, Any],
    write_files: Callable[[pathlib.Path], None],
) -> None:
    """Writes a folder of files with a record of them, whole or not at all.

    All is written under another name beside it, which is renamed at the end. The record
    is `index.json`: what the caller says, the SHA-256 of every file, and the SHA-256 of
    the record itself, so that nothing in the folder can change unseen.

    Args:
        folder: a path that does not exist yet; parents are made.
        record: JSON values by name, other than "format_version", "files", "sha256".
        write_files: is called with an empty folder to write into, subfolders included.

    Raises:
        FileExistsError: if something is there.
        OSError: if the folder cannot be made.
    """
    folder = pathlib.Path(folder)
    check_new_folder(folder, "folder")
    unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    unfinished.mkdir(parents=True)
    try:
        write_files(unfinished)
        names = sorted(
            file.relative_to(unfinished).as_posix()
            for file in unfinished.rglob("*")
            if file.is_file()
        )
        whole = {
            "format_version": _FORMAT_VERSION,
            **record,
            "files": {name: _sha256_of_file(unfinished / name) for name in names},
        }
        whole["sha256"] = _sha256_of_record(whole)
        text = json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
        (unfinished / RECORD_FILE).write_text(text, encoding="utf-8")
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def read_sealed_folder(folder: str | os.PathLike) -> dict[str, Any]:
    """Reads the record of a folder, once all in it is known to be as it was written.

    The checksums tell of damage and mix-ups. They are no signature: who can write the
    folder can seal it anew.

    Args:
        folder: what `write_sealed_folder` wrote. Files that it did not write are
            ignored.

    Returns:
        The record, with its "files" and the other two names.

    Raises:
        FileNotFoundError: if the record, or a file that it names, is missing.
        ValueError: if the record is damaged or of another version, or a file is not the
            one that was written.
    """
    folder = pathlib.Path(folder)
    file = folder / RECORD_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing. Pass a folder that holds a saved index."
        )
    record = _whole_record(file)
    for name, checksum in record["files"].items():
        found = _sha256_of_file(_inside(folder, name, file))
        if found != checksum:
            raise ValueError(
                f"{folder / name} has SHA-256 {found}, but {file} says {checksum}. "
                "Copy the folder again, or build the index anew."
            )
    return record


def _whole_record(file):
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file} is not JSON: {error}. Build the index anew."
        ) from error
    if not isinstance(record, dict):
        raise ValueError(f"{file} is not a JSON object. Build the index anew.")
    version = record.get("format_version")
    if version != _FORMAT_VERSION:
        raise ValueError(
            f"{file} has format_version = {version!r}; only {_FORMAT_VERSION} can be "
            "read. Build the index anew."
        )
    found = _sha256_of_record(record)
    if record.get("sha256") != found:
        raise ValueError(
            f"{file} has been changed: its content has SHA-256 {found}, but it says "
            f"{record.get('sha256')!r}. Copy the folder again, or build the index anew."
        )
    files = record.get("files")
    if not isinstance(files, dict) or not all(
        isinstance(v, str) for v in files.values()
    ):
        raise ValueError(f"{file} lists no files. Build the index anew.")
    return record


def _inside(folder, name, record_file):
    relative = pathlib.PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(
            f"{record_file} names {name!r}, which is outside its folder. Build the "
            "index anew."
        )
    file = folder / relative
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing. Copy the folder again, or build the index anew."
        )
    return file


def _sha256_of_record(record):
    content = {name: value for name, value in record.items() if name != "sha256"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _sha256_of_file(file):
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
