"""A data set of labeled images: what every loader returns."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_dml._checks import checked_integer
from keras_dml._checks import checked_number
from keras_dml.data._pipeline.images import center_crop
from keras_dml.data._pipeline.images import read_in_order
from keras_dml.data._pipeline.images import resized_side
from keras_dml.data._pipeline.rows import check_queries


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """A labeled set of image files and how retrieval on it is measured.

    Parallel arrays, checked when it is made and never changed. It holds no pixels;
    `class_balanced_batches` and `images` read the files.

    Args:
        paths: (images,) strings, the image files.
        labels: (images,) integers from 0 to `len(class_names) - 1`.
        class_names: one name per class; `class_names[label]` is a label's name.
        is_query: (images,) booleans, for sets measured with queries against a
            gallery: true for queries, false for gallery images. None, the
            default, means self-retrieval: each image queries all the others.

    Raises:
        ValueError: if the arrays are empty or differ in length, a path is no string
            (nor `os.PathLike`), a label is out of range, a class has no name, no image
            or another's name, or one side of a query and gallery split is empty.

    Example:
        >>> files = ["a.jpg", "b.jpg", "c.jpg"]
        >>> birds = ImageDataset(files, [0, 1, 1], ["ani", "wren"])
        >>> len(birds), birds.class_names[birds.labels[2]]
        (3, 'wren')
    """

    paths: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    is_query: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Converts the fields to arrays and checks them against each other."""
        paths = _checked_paths(self.paths)
        labels = np.asarray(self.labels)
        names = _checked_names(self.class_names)
        if paths.ndim != 1 or paths.size == 0:
            raise ValueError(
                f"paths must be a list of at least one image file; got an array of "
                f"shape {paths.shape}."
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"labels must be integers; got dtype {labels.dtype}.")
        if labels.shape != paths.shape:
            raise ValueError(
                f"labels must hold one label for each of the {len(paths)} paths; "
                f"got shape {labels.shape}."
            )
        outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
        if outside.size:
            row = outside[0]
            raise ValueError(
                f"labels must lie in 0..{len(names) - 1}, as there are {len(names)} "
                f"class names; {paths[row]} has label {labels[row]}."
            )
        if len(set(names)) < len(names):
            repeated = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"class_names holds {repeated!r} more than once.")
        empty = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
        if empty.size:
            raise ValueError(f"class {names[empty[0]]!r} has no images.")
        object.__setattr__(self, "paths", paths)
        object.__setattr__(self, "labels", labels.astype(np.int64))
        object.__setattr__(self, "class_names", names)
        if self.is_query is not None:
            is_query = check_queries(self.is_query, len(paths), "images")
            object.__setattr__(self, "is_query", is_query)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.paths)

    def query_and_gallery(
        self, embeddings: npt.ArrayLike
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Splits embeddings of the images as the measures of evaluation take them.

        Args:
            embeddings: (images, ...), one row for each image, in the order of `paths`.

        Returns:
            (queries, query_labels, gallery, gallery_labels), the first four arguments
            of `keras_dml.evaluation.recall_at_k` and the other measures. The gallery
            and its labels are None where `is_query` is None: each image queries all the
            others.

        Raises:
            ValueError: if there is not one row for each image.

        Example:
            >>> embeddings = embedder.predict(test.images(28), verbose=0)
            >>> queries, labels, gallery, _ = test.query_and_gallery(embeddings)
            >>> queries.shape, labels.shape, gallery
            ((24, 16), (24,), None)
        """
        embeddings = np.asarray(embeddings)
        if embeddings.shape[:1] != (len(self),):
            raise ValueError(
                f"embeddings must have one row for each of the {len(self)} images; got "
                f"shape {embeddings.shape}. Pass the embeddings of this data set."
            )
        if self.is_query is None:
            return embeddings, self.labels, None, None
        query, gallery = self.is_query, ~self.is_query
        return (
            embeddings[query],
            self.labels[query],
            embeddings[gallery],
            self.labels[gallery],
        )

    def subset(self, keep: npt.ArrayLike) -> ImageDataset:
        """The images of some classes, relabeled from 0 in the same order.

        Args:
            keep: (classes,) booleans, true for the classes to keep, at least one.

        Raises:
            ValueError: if there is not one boolean for each class, no class is kept,
                or of queries and gallery only one is left.
        """
        keep = np.asarray(keep)
        count = len(self.class_names)
        if keep.dtype != bool or keep.shape != (count,) or not keep.any():
            raise ValueError(
                f"keep must hold one boolean for each of the {count} classes, at least "
                f"one of them true; got shape {keep.shape}, dtype {keep.dtype}, "
                f"{np.count_nonzero(keep)} true. Make it of class numbers with "
                f"np.isin(np.arange({count}), numbers)."
            )
        rows = keep[self.labels]
        return ImageDataset(
            self.paths[rows],
            (np.cumsum(keep) - 1)[self.labels[rows]],
            tuple(np.asarray(self.class_names, dtype=object)[keep]),
            None if self.is_query is None else self.is_query[rows],
        )

    def without(self, paths: Collection[str]) -> ImageDataset:
        """The images but some, as those that `find_bad_images` found.

        Labels stay those of the images. Classes that are left without an image are
        left out, and those after them relabeled.

        Args:
            paths: what to leave out; others than its own are ignored.

        Raises:
            ValueError: if no image is left, or of queries and gallery only one, or
                paths is a single path.

        Example:
            >>> len(test.without(test.paths[:3]))
            21
        """
        kept = ~self._is_among(paths)
        if not kept.any():
            raise ValueError(f"none of the {len(self):,} images is left.")
        names, labels = np.unique(self.labels[kept], return_inverse=True)
        return ImageDataset(
            self.paths[kept],
            labels,
            tuple(self.class_names[name] for name in names),
            None if self.is_query is None else self.is_query[kept],
        )

    def with_replaced(self, paths: Collection[str]) -> ImageDataset:
        """The same data set with other images of the class in place of some.

        For training where images can't be read: `find_bad_images` finds them. Labels,
        classes and the order of batches stay as they are, so a run that an image
        stopped can go on where it was.

        Args:
            paths: what to replace; others than its own are ignored.

        Raises:
            ValueError: if no other image of a class is left, or paths is a single path.

        Example:
            >>> spared = train.with_replaced(train.paths[:1])
            >>> bool(spared.paths[0] == train.paths[1])
            True
        """
        is_bad = self._is_among(paths)
        replaced = self.paths.copy()
        for label in np.unique(self.labels[is_bad]):
            of_class = self.labels == label
            good = self.paths[of_class & ~is_bad]
            bad = np.flatnonzero(of_class & is_bad)
            if not len(good):
                raise ValueError(
                    f"none of the {len(bad)} images of class "
                    f"{self.class_names[label]!r} can be used. Repair one, or take "
                    "the class out."
                )
            replaced[bad] = good[np.arange(len(bad)) % len(good)]
        return dataclasses.replace(self, paths=replaced)

    def _is_among(self, paths):
        if isinstance(paths, str | bytes | os.PathLike):
            raise ValueError(
                f"paths must be a list such as [{paths!r}]; got {paths!r}."
            )
        # NumPy would compare a set as one object.
        return np.isin(self.paths, np.asarray([*paths], np.str_))

    def split_by_class(
        self, fraction: float, seed: int = 0
    ) -> tuple[ImageDataset, ImageDataset]:
        """Holds out a share of the classes, with all their images.

        Args:
            fraction: the share of classes to hold out, between 0 and 1; rounded to
                whole classes, with at least 2 on each side, as fewer can't be told
                apart.
            seed: draws the classes, 0 or more.

        Returns:
            (the rest, the classes held out), each relabeled from 0.

        Raises:
            ValueError: if fraction or seed is out of range, or there are fewer than 4
                classes.

        Example:
            >>> train, validation = train.split_by_class(0.5)
            >>> len(train.class_names), len(validation.class_names)
            (2, 2)
        """
        fraction = checked_number(fraction, "fraction", above=0, below=1)
        seed = checked_integer(seed, "seed", 0)
        count = len(self.class_names)
        if count < 4:
            raise ValueError(
                f"{count} classes can't be split, as both sides need at least 2. Add "
                f"classes to {self.class_names}."
            )
        held_out = min(max(2, round(count * fraction)), count - 2)
        drawn = np.zeros(count, bool)
        drawn[np.random.default_rng(seed).permutation(count)[:held_out]] = True
        return self.subset(~drawn), self.subset(drawn)

    def images(
        self, image_size: int = 224, resize: int | None = None, batch_size: int = 100
    ) -> tf.data.Dataset:
        """The images as a model is tested on them: resized, then the center cropped.

        Args:
            image_size: side of the crop, the model's input, in pixels.
            resize: side in pixels that images are resized to before the crop; None: the
                paper's proportion, 256 to 224.
            batch_size: images in a batch, at least 1; the last may have fewer.

        Returns:
            A data set of (batch, image_size, image_size, 3) uint8 RGB, in the order
            of `paths`. Reading from it raises `tf.errors.InvalidArgumentError` with
            the path of a file that can't be decoded.

        Raises:
            ValueError: if a side or the batch size is out of range.

        Example:
            >>> [len(images) for images in test.images(28, batch_size=10)]
            [10, 10, 4]
        """
        resize = resized_side(image_size, resize)
        batch_size = checked_integer(batch_size, "batch_size", 1)

        def crop(image, index):
            return center_crop(image, image_size)

        def drop_indices(images, indices):
            return tf.ensure_shape(images, (None, image_size, image_size, 3))

        return (
            read_in_order(self.paths, resize, batch_size, crop)
            .map(drop_indices)
            .prefetch(tf.data.AUTOTUNE)
            .apply(tf.data.experimental.assert_cardinality(-(-len(self) // batch_size)))
        )


def _checked_paths(paths):
    """Returns paths as an array of strings; its shape is checked by the caller."""
    # NumPy makes text of a list of text and numbers.
    if getattr(paths, "dtype", np.dtype(object)).kind != "U":
        for path in np.asarray(paths, object).ravel():
            if not isinstance(path, str | bytes | os.PathLike):
                raise ValueError(f"paths must be image files; it holds {path!r}.")
    return np.asarray(paths, np.str_)


def _checked_names(names):
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(
            f"class_names must be a list of one name a class; got {names!r}."
        )
    names = tuple(names)
    if None in names:
        raise ValueError(f"class_names[{names.index(None)}] is None; give it a name.")
    return tuple(map(str, names))
