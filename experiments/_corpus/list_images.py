"""Which images a corpus has: those of a list, a folder or a glob."""

import collections
import dataclasses
import glob
import os
import stat

import numpy as np

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


@dataclasses.dataclass(frozen=True)
class ListedImages:
    """Images, in order, as they are on the disk when they are listed.

    Attributes:
        paths: absolute, each once.
        classes: in a folder, the path of its own folder below that one, with "" for
            images in the folder itself; "" in a list or glob.
        sizes: (images,) int64, bytes; -1 where there is no regular file that can be
            opened.
        modified: (images,) int64, ns.
    """

    paths: list[str]
    classes: list[str]
    sizes: np.ndarray
    modified: np.ndarray

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)


def list_images(images: str) -> ListedImages:
    """Lists images, without reading them.

    Args:
        images: a folder, of which the JPEG, PNG, BMP, GIF and WebP files are taken,
            known by their suffix, with those of folders in it, however deep, but for
            hidden ones; a text file of one path a line; or a glob, such as
            "photos/**/*.jpg", where `**` stands for folders.

    Returns:
        The images: of a folder those in it by name, then those of each folder in it; of
        a list in its order; of a glob by name.

    Raises:
        FileNotFoundError: if there is no such file or folder, or a glob finds none.
        ValueError: if there are no images, one is there twice, a path is not UTF-8, a
            list is no text, or a link in a folder leads back to a folder above it.
    """
    if os.path.isdir(images):
        root = os.path.realpath(images)
        found = list(_below(root, "", (root,)))
        if not found:
            raise ValueError(f"--images={images!r} has no images in it.")
        paths, classes = map(list, zip(*found, strict=True))
    else:
        paths = _lines(images) if os.path.isfile(images) else _matches(images)
        classes = [""] * len(paths)
    twice, count = collections.Counter(paths).most_common(1)[0]
    if count > 1:
        raise ValueError(f"--images={images!r} has {twice!r} {count} times.")
    for path in paths:
        _check_utf8(path)
    sizes, modified = np.array([size_and_time(path) for path in paths]).T.copy()
    return ListedImages(paths, classes, sizes, modified)


def size_and_time(path: str) -> tuple[int, int]:
    """(bytes, ns) of a file; (-1, 0) where no regular file can be opened."""
    try:
        status = os.stat(path)
    except OSError:
        return -1, 0
    if not stat.S_ISREG(status.st_mode) or not os.access(path, os.R_OK):
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _below(root, name, above):
    """(path, class) of the images in root/name and in all folders there."""
    with os.scandir(os.path.join(root, name)) as entries:
        entries = sorted(entries, key=lambda entry: entry.name)
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in visible:
        if entry.name.lower().endswith(_SUFFIXES) and not entry.is_dir():
            yield entry.path, name
    for entry in visible:
        if entry.is_dir():
            folder = os.path.realpath(entry.path)
            if folder in above:
                raise ValueError(
                    f"{entry.path!r} leads back to {folder!r}, which it is in. Remove "
                    "the link, or give a list of the images."
                )
            inside = os.path.join(name, entry.name)
            yield from _below(root, inside, (*above, folder))


def _lines(file):
    try:
        with open(file, encoding="utf-8") as stream:
            lines = [line.rstrip("\r\n") for line in stream]
    except UnicodeDecodeError:
        raise ValueError(
            f"--images={file!r} is no text in UTF-8. Give a list of one path a line, a "
            "folder or a glob."
        ) from None
    paths = [os.path.abspath(line) for line in lines if line.strip()]
    if not paths:
        raise ValueError(f"--images={file!r} lists no images.")
    return paths


def _matches(pattern):
    # Its own order is the disk's, which another machine need not have.
    found = sorted(glob.iglob(pattern, recursive=True))
    paths = [os.path.abspath(path) for path in found if not os.path.isdir(path)]
    if not paths:
        raise FileNotFoundError(
            f"--images={pattern!r}: no such folder or list, and no file that it "
            "matches."
        )
    return paths


def _check_utf8(path):
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{path!r} is not UTF-8, as TensorFlow needs paths to be; rename the file, "
            "or the folder whose name it is."
        ) from None
