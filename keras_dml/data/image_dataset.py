"""The value that every loader returns."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_dml.data._pipeline.images import center_crop
from keras_dml.data._pipeline.images import read_in_order
from keras_dml.data._pipeline.images import resize_for


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """A labeled set of image files and the way its retrieval is measured.

    A plain value: parallel arrays, checked once here and never changed. It holds
    no pixels; `class_balanced_batches` and `images` read the files.

    Args:
        paths: (images,) strings, the image files.
        labels: (images,) integers from 0 to `len(class_names) - 1`.
        class_names: one name a class; `class_names[label]` is a label's name.
        is_query: (images,) booleans, for sets measured with queries against a
            gallery: true for queries, false for gallery images. None, the
            default, means self-retrieval: each image queries all the others.

    Raises:
        ValueError: if the arrays are empty or differ in length, a label is out
            of range, a class has no image, two classes share a name, or one side
            of a query and gallery split is empty.
    """

    paths: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    is_query: np.ndarray | None = None

    def __post_init__(self):
        """Converts the fields to arrays and checks that they belong together."""
        paths = np.asarray(self.paths, dtype=np.str_)
        labels = np.asarray(self.labels)
        names = tuple(str(name) for name in self.class_names)
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
            self._check_queries(np.asarray(self.is_query))

    def _check_queries(self, is_query):
        if is_query.dtype != bool or is_query.shape != self.paths.shape:
            raise ValueError(
                f"is_query must hold one boolean for each of the {len(self)} images; "
                f"got shape {is_query.shape}, dtype {is_query.dtype}."
            )
        if is_query.all() or not is_query.any():
            raise ValueError("is_query must mark some images as queries, not all.")
        object.__setattr__(self, "is_query", is_query)

    def __len__(self):
        """The number of images."""
        return len(self.paths)

    def query_and_gallery(
        self, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Divides what belongs to the images into what the measures take.

        Args:
            rows: (images, ...) in the order of the images, such as their embeddings.

        Returns:
            (queries, query_labels, gallery, gallery_labels), the first arguments of
            `keras_dml.evaluation.recall_at_k` and the other measures; the gallery's
            are None where each image queries all the others.

        Raises:
            ValueError: if there is not one row for each image.

        Example:
            >>> recall_at_k(*test.query_and_gallery(embed(embedder, test)))
        """
        if len(rows) != len(self):
            raise ValueError(
                f"rows must have one row for each of the {len(self)} images; got "
                f"{len(rows)}. Embed this very data set."
            )
        if self.is_query is None:
            return rows, self.labels, None, None
        queries, gallery = self.is_query, ~self.is_query
        return rows[queries], self.labels[queries], rows[gallery], self.labels[gallery]

    def subset(self, keep: np.ndarray) -> "ImageDataset":
        """The images of some classes, relabeled from 0 in the same order.

        Args:
            keep: (classes,) booleans, the classes to keep.
        """
        keep = np.asarray(keep, dtype=bool)
        rows = keep[self.labels]
        return ImageDataset(
            self.paths[rows],
            (np.cumsum(keep) - 1)[self.labels[rows]],
            tuple(np.asarray(self.class_names, dtype=object)[keep]),
            None if self.is_query is None else self.is_query[rows],
        )

    def split_by_class(
        self, fraction: float, seed: int = 0
    ) -> tuple["ImageDataset", "ImageDataset"]:
        """Sets a share of the classes aside, with all their images.

        Args:
            fraction: the share of classes to set aside, between 0 and 1; rounded to
                whole classes.
            seed: draws the classes, 0 or more.

        Returns:
            (the rest, the classes set aside), each relabeled from 0.

        Raises:
            ValueError: if fraction is out of range or would leave either side fewer
                than two classes, too few to tell apart.
        """
        count = len(self.class_names)
        if not 0 < fraction < 1:
            raise ValueError(
                f"the fraction of classes must lie between 0 and 1; got {fraction}."
            )
        aside = round(count * fraction)
        if not 2 <= aside <= count - 2:
            raise ValueError(
                f"a fraction of {fraction} of {count} classes sets {aside} aside and "
                f"leaves {count - aside}; both sides need at least 2. Add classes or "
                "change the fraction."
            )
        drawn = np.zeros(count, bool)
        drawn[np.random.default_rng(seed).permutation(count)[:aside]] = True
        return self.subset(~drawn), self.subset(drawn)

    def images(
        self, image_size: int = 224, resize: int | None = None, batch_size: int = 100
    ) -> tf.data.Dataset:
        """The images as a model is tested on them: resized, the middle cut out.

        Args:
            image_size: side of the crop, the model's input, in pixels.
            resize: side that images are resized to before the crop; default as 256
                to `image_size`'s 224.
            batch_size: images in a batch; the last may have fewer.

        Returns:
            A data set of (batch, image_size, image_size, 3) uint8 RGB, in the order
            of `paths`. Reading from it raises `tf.errors.InvalidArgumentError` with
            the path of a file that can't be decoded.

        Raises:
            ValueError: if a side is out of range.
        """
        resize = resize_for(image_size, resize)

        def middle(image, index):
            return center_crop(image, image_size)

        def images_alone(images, indices):
            return tf.ensure_shape(images, (None, image_size, image_size, 3))

        return (
            read_in_order(self.paths, resize, batch_size, middle)
            .map(images_alone)
            .prefetch(tf.data.AUTOTUNE)
            .apply(tf.data.experimental.assert_cardinality(-(-len(self) // batch_size)))
        )
