"""Files and folders that appear whole or not at all, sealed folders, and the cache.

Everything that keras_dml writes to keep is written through `atomic_file` or
`atomic_folder`: in a hidden folder beside its place, and moved there at the end. So a
reader never finds half of it, and a write that fails leaves what was there before.
Where the disk is full, or the folder can't be written or is gone, one error names the
path.
"""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

RECORD_FILE = "index.json"
"""The file of a sealed folder that lists the others."""

_FORMAT_VERSION = 2

_WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_FULL = 2**16  # bytes; a disk that has no more free than these.

_UNFINISHED = ".unfinished."
"""In the name of a hidden folder that is being filled."""


@contextlib.contextmanager
def atomic_file(file: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a path to write a file to, which replaces `file` at the end.

    The path ends in the same name, for libraries that go by the suffix. If the block
    raises, `file` stays as it was.

    Args:
        file: where the file is to be, in a folder that exists.

    Yields:
        The path to write to.

    Raises:
        OSError: if nothing can be written there, or a folder of that name is there.
    """
    file = pathlib.Path(file)
    with _hidden_folder_beside(file) as hidden:
        yield hidden / file.name
        _sync(hidden / file.name)
        os.replace(hidden / file.name, file)


@contextlib.contextmanager
def atomic_folder(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives an empty folder to fill, which becomes `folder` at the end.

    It ends in the same name. If the block raises, it is removed.

    Args:
        folder: a path that does not exist yet; parents are made.

    Yields:
        The folder to fill.

    Raises:
        OSError: if the folder cannot be made, or something else is there at the end,
            other than an empty folder.
    """
    folder = pathlib.Path(folder)
    with _hidden_folder_beside(folder, parents=True) as hidden:
        unfinished = hidden / folder.name
        unfinished.mkdir()
        yield unfinished
        for file in unfinished.rglob("*"):
            _sync(file)
        os.rename(unfinished, folder)


def _sync(path):
    """Has a file on the disk before its name changes, for when the power fails."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _hidden_folder_beside(path, parents=False):
    hidden = None
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(path.parent, path.name)
        # On the same file system, so that moving from it is one atomic step.
        hidden = tempfile.mkdtemp(prefix=f".{path.name}{_UNFINISHED}", dir=path.parent)
        with locked(hidden):
            yield pathlib.Path(hidden)
    except Exception as error:
        number = _error_of_writing(error, hidden)
        if number is None:
            raise
        raise _os_error(
            number,
            f"{str(path)!r} can't be written: {os.strerror(number)}. Make room, or "
            "have it writable, or name another place.",
        ) from error
    finally:
        if hidden is not None:
            shutil.rmtree(hidden, ignore_errors=True)


def _error_of_writing(error, hidden):
    """Gives the number of an error that writing into a folder had, None for others.

    Libraries tell of a full disk in many ways, some of them by no more than a file that
    came out too short.
    """
    if isinstance(error, OSError) and error.errno is not None:
        of_hidden = hidden is None or _UNFINISHED in str(error.filename)
        if of_hidden or (error.filename is None and error.errno in _WRITE_ERRORS):
            return error.errno
    if hidden is not None and not os.path.isdir(hidden):
        return errno.ENOENT
    if os.strerror(errno.ENOSPC) in str(error):
        return errno.ENOSPC
    if isinstance(error, OSError) and error.errno is None and hidden is not None:
        return errno.ENOSPC if shutil.disk_usage(hidden).free < _FULL else None
    return None


def _os_error(number, message):
    """Makes the `OSError` of a number, such as `PermissionError`, with a message."""
    error = type(OSError(number, ""))(message)
    error.errno = number
    return error


def remove_unfinished(folder: str | os.PathLike, name: str = "*") -> None:
    """Removes what processes that were killed left of `atomic_file`, `atomic_folder`.

    What a process that runs is writing stays.

    Args:
        folder: where the files and folders were to be.
        name: of the file or folder; all by default.
    """
    pattern = name if name == "*" else glob.escape(name)
    for hidden in pathlib.Path(folder).glob(f".{pattern}{_UNFINISHED}*"):
        with contextlib.suppress(OSError), locked(hidden):
            shutil.rmtree(hidden, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
    """Holds the lock of a folder, or raises `BlockingIOError` where another does.

    It leaves no file behind, and goes with the process, however that ends.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def write_json(file: str | os.PathLike, content: Any) -> None:
    """Writes JSON, indented, in UTF-8, through `atomic_file`.

    Args:
        file: where the file is to be, in a folder that exists; one there is replaced.
        content: what `json.dumps` takes.

    Raises:
        TypeError: if the content is not what JSON can hold.
        OSError: if nothing can be written there.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with atomic_file(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def check_new_folder(folder: str | os.PathLike, name: str) -> None:
    """Checks that a folder can be made, before the work that is to fill it.

    To try it, a hidden folder is made where its first new parent would be, and removed.

    Args:
        folder: a path that does not exist yet, and whose parents may not either.
        name: what the caller's signature calls it, for the error message.

    Raises:
        FileExistsError: if something is there, even a broken link.
        OSError: if no folder can be made there, such as `NotADirectoryError` where a
            file is in the way.
    """
    folder = pathlib.Path(folder)
    if os.path.lexists(folder):
        what = "exists already" if folder.exists() else "is a broken link"
        raise FileExistsError(
            f"{name}={str(folder)!r} {what}. Remove it, or name another."
        )
    above = next(path for path in folder.absolute().parents if os.path.lexists(path))
    try:
        _try_folder(above, folder.name)
    except OSError as error:
        raise type(error)(
            f"{name}={str(folder)!r} cannot be made in {str(above)!r}: "
            f"{error.strerror}. Name a folder where one can be made."
        ) from error


def check_writable_file(file: str | os.PathLike, name: str) -> None:
    """Checks that `atomic_file` can write a file, before the work that it is to hold.

    Args:
        file: where the file is to be; one there would be replaced.
        name: what the caller's signature calls it, for the error message.

    Raises:
        IsADirectoryError: if a folder is there.
        FileNotFoundError: if the folder that it is to be in is missing.
        OSError: if nothing can be written there.
    """
    file = pathlib.Path(file)
    if file.is_dir():
        raise IsADirectoryError(f"{name}={str(file)!r} is a folder. Name a file in it.")
    try:
        _try_folder(file.parent, file.name)
    except OSError as error:
        raise type(error)(
            f"{name}={str(file)!r} cannot be written in {str(file.parent)!r}: "
            f"{error.strerror}. Name a file in a folder that can be written."
        ) from error


def _try_folder(above, name):
    prefix = f".{name}{_UNFINISHED}"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=above):
        pass


def check_free_space(folder: str | os.PathLike, size: int, what: str) -> None:
    """Checks that a disk has room, before the work that is to fill it.

    Args:
        folder: a folder that exists.
        size: bytes that are to be written there.
        what: what they are, for the error message, with what else can be done.

    Raises:
        OSError: if the disk has fewer bytes free.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise _os_error(
            errno.ENOSPC,
            f"{str(folder)!r} has {free / 1e6:,.1f} MB free, and {size / 1e6:,.1f} MB "
            f"are needed for {what}.",
        )


def default_cache_dir() -> pathlib.Path:
    """Returns the folder for data that can be made again.

    Returns:
        `$KERAS_DML_CACHE` if set, else `~/.cache/keras_dml`.
    """
    return pathlib.Path(
        os.environ.get("KERAS_DML_CACHE") or "~/.cache/keras_dml"
    ).expanduser()


def cached_folder(
    folder: pathlib.Path, make: Callable[[pathlib.Path], None]
) -> pathlib.Path:
    """Returns a folder, made through `atomic_folder` if it is not there yet.

    Args:
        folder: where it is to be; its name must tell all that its content depends on.
        make: fills the empty folder that it is given.

    Returns:
        `folder`.

    Raises:
        OSError: if the folder cannot be made.
    """
    if folder.is_dir():
        return folder
    try:
        with atomic_folder(folder) as unfinished:
            make(unfinished)
    except OSError:
        # Another process may have made it meanwhile.
        if not folder.is_dir():
            raise
    return folder


def write_sealed_folder(
    folder: str | os.PathLike,
    record: Mapping[str, Any],
    write_files: Callable[[pathlib.Path], None],
) -> None:
    """Writes a folder of files and a record of them, through `atomic_folder`.

    The record is `index.json`: what the caller says, the SHA-256 of every file, and the
    SHA-256 of the record itself, so that no change in the folder goes unnoticed.

    Args:
        folder: a path that does not exist yet; parents are made.
        record: JSON values by name, other than "format_version", "files", "sha256".
        write_files: is called with an empty folder to write into, subfolders included.

    Raises:
        FileExistsError: if something is there.
        OSError: if the folder cannot be made.
    """
    check_new_folder(folder, "folder")
    with atomic_folder(folder) as unfinished:
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
        write_json(unfinished / RECORD_FILE, whole)


def read_sealed_folder(folder: str | os.PathLike) -> dict[str, Any]:
    """Reads the record of a folder, after checking every file against it.

    The checksums reveal damage and mix-ups. They are no signature: whoever can write
    the folder can seal it again.

    Args:
        folder: what `write_sealed_folder` wrote. Files that it did not write are
            ignored.

    Returns:
        The record, with "format_version", "files" and "sha256".

    Raises:
        FileNotFoundError: if the record, or a file that it names, is missing.
        ValueError: if the record is damaged or of another version, or a file is not the
            one that was written.
    """
    folder = pathlib.Path(folder)
    file = folder / RECORD_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing. Pass a folder that was saved whole."
        )
    record = _checked_record(file)
    for name, checksum in record["files"].items():
        found = _sha256_of_file(_file_inside(folder, name, file))
        if found != checksum:
            raise ValueError(
                f"{folder / name} has SHA-256 {found}, but {file} says {checksum}. "
                "Copy the folder or make it again."
            )
    return record


def _checked_record(file):
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {error}. Make it again.") from error
    if not isinstance(record, dict):
        raise ValueError(f"{file} is not a JSON object. Make it again.")
    version = record.get("format_version")
    if version != _FORMAT_VERSION:
        raise ValueError(
            f"{file} has format_version = {version!r}; only {_FORMAT_VERSION} can be "
            "read. Make it again."
        )
    found = _sha256_of_record(record)
    if record.get("sha256") != found:
        raise ValueError(
            f"{file} has been changed: its content has SHA-256 {found}, but it says "
            f"{record.get('sha256')!r}. Copy the folder or make it again."
        )
    files = record.get("files")
    if not isinstance(files, dict) or not all(
        isinstance(checksum, str) for checksum in files.values()
    ):
        raise ValueError(f"{file} lists no files. Make it again.")
    return record


def _file_inside(folder, name, record_file):
    relative = pathlib.PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(
            f"{record_file} names {name!r}, which is outside its folder. Make it again."
        )
    file = folder / relative
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing. Copy the folder or make it again.")
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
