"""Opens a gallery of either kind."""

import os
import pathlib

from keras_dml._files import RECORD_FILE
from keras_dml.search.gallery import Gallery
from keras_dml.search.gallery import read_gallery
from keras_dml.search.lance_gallery import LanceGallery
from keras_dml.search.lance_gallery import holds_lance_gallery


def load_gallery(folder: str | os.PathLike) -> Gallery | LanceGallery:
    """Opens a gallery that was saved: one that is sealed, or one that grows.

    Nothing is unpickled, and no code is run from the files.

    Args:
        folder: what `save_gallery` or `LanceGallery.create` wrote. It must stay as long
            as the gallery is used. A gallery that grows may be on object storage, as in
            "s3://bucket/photos".

    Returns:
        The gallery. Both kinds are searched alike, but for conditions, which only a
        gallery that grows takes.

    Raises:
        FileNotFoundError: if there is no gallery there, or a file of it is missing.
        ValueError: if the files are damaged or do not belong together.
        ImportError: if the library of its index, or LanceDB, is not installed.

    Example:
        >>> embeddings = keras_dml.evaluation.embed(embedder, test, 32, verbose=0)
        >>> save_gallery("gallery", embeddings, test, image_size=28, resize=32)
        >>> gallery = load_gallery("gallery")
        >>> matches = gallery.search(embedder, test.paths[0], k=1)
        >>> matches.names[0, 0] == os.path.abspath(test.paths[0])
        True
    """
    if not isinstance(folder, str | os.PathLike):
        raise ValueError(f"folder must be a path; got {folder!r}.")
    uri = os.path.expanduser(os.fspath(folder))
    if "://" in uri or holds_lance_gallery(pathlib.Path(uri)):
        return LanceGallery.open(uri)
    if not (pathlib.Path(uri) / RECORD_FILE).is_file():
        raise FileNotFoundError(
            f"no gallery in {uri!r}. Name a folder that experiments.index, a run or "
            "save_gallery wrote."
        )
    return read_gallery(pathlib.Path(uri))
