"""The folder that a training run writes."""

import json
import os
import pathlib
import tempfile


def check_run_directory(folder: str | os.PathLike) -> None:
    """Refuses a folder that a run can't have for its own; makes nothing.

    Raises:
        FileExistsError: if the folder holds something already; a run never mixes with
            another's files.
        NotADirectoryError: if a file is in the way.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"output_dir {str(folder)!r} is a file.")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(
            f"output_dir {str(folder)!r} is not empty. Name another, or delete it."
        )
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    if not parent.is_dir():
        raise NotADirectoryError(f"output_dir {str(folder)!r}: {parent} is a file.")


def new_run_directory(folder: str | os.PathLike) -> pathlib.Path:
    """Makes the folder of a run, after `check_run_directory`."""
    check_run_directory(folder)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json(file: str | os.PathLike, content) -> None:
    """Writes JSON under a temporary name and renames it, so it is whole or absent."""
    file = pathlib.Path(file)
    handle, unfinished = tempfile.mkstemp(
        prefix=file.name, suffix=".unfinished", dir=file.parent
    )
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=2, ensure_ascii=False)
            stream.write("\n")
        os.chmod(unfinished, 0o644)
        os.replace(unfinished, file)
    finally:
        pathlib.Path(unfinished).unlink(missing_ok=True)
