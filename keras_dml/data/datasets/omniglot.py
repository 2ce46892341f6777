"""Omniglot: handwritten characters of 50 alphabets, by 20 people each."""

import hashlib
import os
import pathlib
import re
import zipfile
import zlib

import numpy as np

from keras_dml._files import cached_folder
from keras_dml._files import default_cache_dir
from keras_dml.data.image_dataset import ImageDataset

_MEMBER = re.compile(r"[^/]+/[^/]+/character\d+/[^/]+\.png")


def omniglot(
    train_zip: str | os.PathLike,
    test_zip: str | os.PathLike,
    cache_dir: str | os.PathLike | None = None,
) -> tuple[ImageDataset, ImageDataset]:
    """Omniglot from its official zip files; each character is a class.

    The files are `images_background.zip` and `images_evaluation.zip`, or the small
    `images_background_small1.zip` and `images_background_small2.zip`, as they are
    downloaded from https://github.com/brendenlake/omniglot. The test set holds the
    characters of `test_zip` whose alphabet is not in `train_zip`; of the two small
    files these are 106 classes and 2,120 images.

    Args:
        train_zip: the file to train on.
        test_zip: the file to test on.
        cache_dir: where the images are unpacked, once; `default_cache_dir()` if None.

    Returns:
        (train, test); class names are like "Alphabet/character01".

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is not a zip of Omniglot, is damaged, or no alphabet is
            left to test on.

    Example:
        >>> train, test = omniglot(
        ...     "images_background_small1.zip", "images_background_small2.zip"
        ... )  # doctest: +SKIP
        >>> len(train), len(test)  # doctest: +SKIP
        (2720, 2120)

    Reference:
        [Lake et al., 2015](https://doi.org/10.1126/science.aab3050).
    """
    cache_dir = default_cache_dir() if cache_dir is None else pathlib.Path(cache_dir)
    cache_dir = cache_dir.expanduser()
    train = _characters(_unpacked(train_zip, cache_dir))
    test = _characters(_unpacked(test_zip, cache_dir))
    alphabets = {name.split("/")[0] for name in train}
    unseen = {
        name: paths
        for name, paths in test.items()
        if name.split("/")[0] not in alphabets
    }
    if not unseen:
        raise ValueError(
            f"omniglot: every alphabet of {str(test_zip)!r} is also in "
            f"{str(train_zip)!r}, so no class is left to test on."
        )
    return _dataset(train), _dataset(unseen)


def _unpacked(archive, cache_dir):
    archive = pathlib.Path(archive)
    if not archive.is_file():
        raise FileNotFoundError(
            f"omniglot: no file {str(archive)!r}. Download it from "
            "https://github.com/brendenlake/omniglot/tree/master/python."
        )
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()[:16]

    def unpack(folder):
        try:
            with zipfile.ZipFile(archive) as zipped:
                members = [
                    name for name in zipped.namelist() if _MEMBER.fullmatch(name)
                ]
                zipped.extractall(folder, members)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(
                f"omniglot: {str(archive)!r} is not a complete zip file ({error}); "
                "download it again."
            ) from None
        if not members:
            raise ValueError(
                f"omniglot: {str(archive)!r} holds no ALPHABET/characterNN/*.png, so "
                "it is not one of Omniglot's image files."
            )

    return cached_folder(cache_dir / f"omniglot-{digest}", unpack)


def _characters(folder):
    """{"Alphabet/character01": image files} of an unpacked file."""
    characters = {}
    for path in sorted(folder.glob("*/*/character*/*.png")):
        name = f"{path.parent.parent.name}/{path.parent.name}"
        characters.setdefault(name, []).append(str(path))
    return characters


def _dataset(characters):
    sizes = [len(paths) for paths in characters.values()]
    return ImageDataset(
        [path for paths in characters.values() for path in paths],
        np.repeat(np.arange(len(sizes)), sizes),
        tuple(characters),
    )
