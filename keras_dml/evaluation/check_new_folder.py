"""The check on a folder that is to be made."""

import os
import pathlib
import tempfile


def check_new_folder(folder: str | os.PathLike, name: str) -> None:
    """Makes sure that a folder can be made, before the work that is to fill it.

    One of a like name is made above it, where there is a folder, and removed again.

    Args:
        folder: a path that does not exist yet, and whose parents may not either.
        name: what the caller's signature calls it, for the error message.

    Raises:
        FileExistsError: if something is there, be it a link that leads nowhere.
        OSError: if no folder can be made there, such as `NotADirectoryError` where a
            file is in the way.
    """
    folder = pathlib.Path(folder)
    if os.path.lexists(folder):
        what = "exists already" if folder.exists() else "is a link that leads nowhere"
        raise FileExistsError(
            f"{name}={str(folder)!r} {what}. Remove it, or name another."
        )
    above = next(path for path in folder.absolute().parents if os.path.lexists(path))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=above):
            pass
    except OSError as error:
        raise type(error)(
            f"{name}={str(folder)!r} cannot be made in {str(above)!r}: "
            f"{error.strerror}. Name a folder where one can be made."
        ) from error
