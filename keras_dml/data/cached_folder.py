"""Folders of files that are made once and found again."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable


def cached_folder(
    folder: pathlib.Path, make: Callable[[pathlib.Path], None]
) -> pathlib.Path:
    """Gives the folder, made if it is not there yet, and never half-made.

    Args:
        folder: where it is to be; its name must tell all that its content depends on.
        make: fills the empty folder that it is given. What it leaves is renamed to
            `folder` once it has returned, and deleted if it raises.

    Returns:
        `folder`.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = pathlib.Path(
        tempfile.mkdtemp(prefix=f"{folder.name}.unfinished-", dir=folder.parent)
    )
    try:
        make(unfinished)
        unfinished.chmod(0o755)
        try:
            os.rename(unfinished, folder)
        except OSError:
            # Another process may have made it meanwhile.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
