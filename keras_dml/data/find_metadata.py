"""Where in a folder an extracted archive lies."""

import os
import pathlib
from collections.abc import Sequence

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
