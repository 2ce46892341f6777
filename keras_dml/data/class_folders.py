"""Images laid out as one folder a class."""

import os
import pathlib

from keras_dml.data.image_dataset import ImageDataset

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def class_folders(folder: str | os.PathLike) -> ImageDataset:
    """The images in `folder/<class>/*`.

    Read are JPEG, PNG, BMP, GIF and, where TensorFlow does, WebP files, told by their
    suffix; grey, RGBA and CMYK ones too, but not BMP with a palette of colours. EXIF
    orientation is left alone. Other files and hidden ones are passed over.

    Args:
        folder: the folder.

    Returns:
        The images, in the order of their classes' names and then of their own.

    Raises:
        FileNotFoundError: if there is no such folder, or a link in it leads nowhere.
        ValueError: if a folder holds no images, a file is empty, or its path is not
            UTF-8; the message names it.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}.")
    names = sorted(entry.name for entry in _visible(folder) if entry.is_dir())
    if not names:
        raise ValueError(f"{str(folder)!r} has no class folders.")
    paths = []
    labels = []
    for label, name in enumerate(names):
        images = _images_of(folder / name)
        paths.extend(images)
        labels.extend([label] * len(images))
    return ImageDataset(paths, labels, names)


def _images_of(folder):
    images = []
    for entry in sorted(_visible(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            raise ValueError(
                f"{entry.path!r} is a folder inside a class folder; put "
                "the images of a class side by side."
            )
        if entry.name.lower().endswith(_SUFFIXES):
            if not _is_utf8(entry.path):
                raise ValueError(
                    f"{entry.path!r} is not UTF-8, as TensorFlow needs paths to be; "
                    "rename the file, or the folder whose name it is."
                )
            if not os.path.exists(entry.path):
                raise FileNotFoundError(
                    f"{entry.path!r} is a broken link; mend or remove it."
                )
            if entry.stat().st_size == 0:
                raise ValueError(f"{entry.path!r} is an empty file.")
            images.append(entry.path)
    if not images:
        raise ValueError(
            f"class folder {str(folder)!r} has no images ({', '.join(_SUFFIXES)})."
        )
    return images


def _visible(folder):
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _is_utf8(path):
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
