"""A gallery with a number for each image, by which a page may ask for it."""

import io
import threading

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from keras_dml import search
from keras_dml.data import preprocess_image

_THUMBNAIL = 256
MODES = ("cosine", "code", "exact")
"""How a page may compare: by the gallery's index, by binary codes, with every image."""


class ShownGallery:
    """Searches a gallery for one image at a time, and numbers what it finds.

    An image keeps its number as long as this lives, also in a gallery that grows. So a
    page never says a path, and gets no file that is not in the gallery.

    Args:
        gallery: the gallery.
        embedder: the model that it was made with.
        k: how many images to find.
    """

    def __init__(
        self,
        gallery: search.Gallery | search.LanceGallery,
        embedder: keras.Model,
        k: int,
    ) -> None:
        self.k = k
        self._gallery = gallery
        self._embedder = embedder
        self._names: list[str] = []
        self._classes: list[str] = []
        self._numbers: dict[str, int] = {}
        if isinstance(gallery, search.Gallery):
            # The number is the row, also of a path that is there twice.
            self._names, self._classes = (
                gallery.paths.tolist(),
                gallery.classes.tolist(),
            )
            self._numbers = {
                name: row for row, name in reversed([*enumerate(self._names)])
            }
        self._one_at_a_time = threading.Lock()
        # An image of 50 million pixels takes 150 MB.
        self._decoding = threading.Semaphore(2)
        self.numbers()

    def __len__(self) -> int:
        """The number of images now."""
        return len(self._gallery)

    def numbers(self) -> list[int]:
        """The numbers of all images, in the gallery's order as it is now."""
        if isinstance(self._gallery, search.Gallery):
            return list(range(len(self._gallery)))
        rows = self._gallery.read()
        names, classes = rows["id"], rows["class"]
        with self._one_at_a_time:
            return [self._number(*one) for one in zip(names, classes, strict=True)]

    def about(self, number: int) -> tuple[str, str]:
        """(name, class) of an image.

        Raises:
            KeyError: if no image has the number.
        """
        if not 0 <= number < len(self._names):
            raise KeyError(number)
        return self._names[number], self._classes[number]

    def like(self, number: int, mode: str) -> list[tuple[int, float]]:
        """The images nearest to one of the gallery, without it, by number and score.

        Raises:
            KeyError: if no image has the number, or it has been deleted.
        """
        embedding = self._embedding_of(number)
        matches = self._gallery.search_embeddings(
            embedding[None], self.k + 1, **_options(mode)
        )
        found = self._numbered(matches)
        return [one for one in found if one[0] != number][: self.k]

    def search(self, pixels: np.ndarray, mode: str) -> list[tuple[int, float]]:
        """The images nearest to pixels as the model takes them."""
        with self._one_at_a_time:
            matches = self._gallery.search(
                self._embedder, pixels, self.k, **_options(mode)
            )
        return self._numbered(matches)

    def pixels_of(self, encoded: bytes) -> np.ndarray:
        """Decodes, resizes and crops an image as the gallery's were.

        Raises:
            tf.errors.InvalidArgumentError: if it can't be decoded.
        """
        with self._decoding, tf.device("CPU"):
            return preprocess_image(
                tf.constant(encoded), self._gallery.image_size, self._gallery.resize
            ).numpy()

    def thumbnail(self, number: int) -> bytes:
        """A JPEG file of an image.

        Raises:
            KeyError: if no image has the number.
            OSError: if its file is gone, or can't be read any more.
        """
        name, _ = self.about(number)
        if isinstance(self._gallery, search.LanceGallery) and name not in self._gallery:
            raise KeyError(number)
        try:
            with Image.open(name) as image:
                image.draft("RGB", (_THUMBNAIL, _THUMBNAIL))
                image = image.convert("RGB")
                image.thumbnail((_THUMBNAIL, _THUMBNAIL))
                file = io.BytesIO()
                image.save(file, "JPEG", quality=85)
        except (Image.DecompressionBombError, ValueError, SyntaxError) as error:
            raise OSError(f"can't read {name!r}: {error}") from None
        return file.getvalue()

    def _number(self, name, class_name):
        number = self._numbers.setdefault(str(name), len(self._names))
        if number == len(self._names):
            self._names.append(str(name))
            self._classes.append(str(class_name))
        self._classes[number] = str(class_name)
        return number

    def _numbered(self, matches):
        found = zip(
            matches.names[0], matches.classes[0], matches.scores[0], strict=True
        )
        with self._one_at_a_time:
            return [
                (self._number(name, class_name), float(score))
                for name, class_name, score in found
                if name
            ]

    def _embedding_of(self, number):
        name, _ = self.about(number)
        if isinstance(self._gallery, search.Gallery):
            return self._gallery.embeddings[number]
        return self._gallery.embedding(name)


def _options(mode):
    return {"codes": mode == "code", "exact": mode == "exact"}
