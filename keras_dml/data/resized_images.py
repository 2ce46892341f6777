"""All images of a data set, decoded and resized once."""

import hashlib
import os
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from keras_dml.data.cache_dir import default_cache_dir
from keras_dml.data.read_images import read_all_images


def resized_images(paths: np.ndarray, resize: int, cache: str) -> np.ndarray:
    """Decodes and resizes every image, with a progress bar.

    Args:
        paths: (images,) strings.
        resize: side in pixels that images are resized to.
        cache: "memory" gives an array of `images * resize² * 3` bytes; "disk" keeps
            it in a file under `default_cache_dir()` that later runs find again. The
            file's name is a digest of the paths, file sizes, times of change and
            `resize`, so a changed image makes a new file.

    Returns:
        (images, resize, resize, 3) uint8; on "disk" a memory-mapped, read-only one.

    Raises:
        ValueError: if an image can't be decoded; the message has its path.
    """
    shape = (len(paths), resize, resize, 3)
    if cache == "memory":
        pixels = np.empty(shape, np.uint8)
        _fill(pixels, paths, resize)
        return pixels
    folder = default_cache_dir() / "resized_images"
    file = folder / f"{_digest(paths, resize)}.npy"
    if not _is_whole(file, shape):
        folder.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(suffix=".unfinished", dir=folder)
        os.close(handle)
        try:
            pixels = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
            _fill(pixels, paths, resize)
            pixels.flush()
            os.replace(unfinished, file)
        finally:
            pathlib.Path(unfinished).unlink(missing_ok=True)
    return np.load(file, mmap_mode="r")


def _is_whole(file, shape):
    try:
        return np.load(file, mmap_mode="r").shape == shape
    except (OSError, ValueError):
        # Not there, or cut short by a full disk; either way it is made anew.
        return False


def _fill(pixels, paths, resize):
    for first, images in read_all_images(paths, resize):
        pixels[first : first + len(images)] = images


def _digest(paths, resize):
    digest = hashlib.sha256(f"{tf.__version__} {resize}".encode())
    for path in paths:
        stat = os.stat(path)
        line = f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        digest.update(line.encode())
    return digest.hexdigest()[:32]
