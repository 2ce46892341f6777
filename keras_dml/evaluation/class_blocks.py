"""Embeddings in the order of their classes, a block at a time."""

import numpy as np

from keras_dml.evaluation.unit_rows import unit_rows

# A block ends where a class does if that leaves at most this share of it empty.
_EMPTY_SHARE = 1 / 8


class ClassBlocks:
    """Rows sorted by class and cut into blocks, made comparable by inner product.

    All blocks have one shape, filled up with zero rows, so that the inner products of
    any two blocks come from the same arithmetic and may be compared for equality.

    Args:
        embeddings: (n, dim) float16, float32 or float64, or (n, bytes) uint8 packed
            codes; may be memory-mapped, as a block is read when it is asked for.
        classes: (n,) integers from 0.
        side: rows in a block, a multiple of 64.

    Attributes:
        rows: (n,) the row numbers, in the order of their classes.
        cuts: (blocks + 1,) where in `rows` each block begins, and the last ends.
        classes: (blocks, side) the class of each row, -1 for those filled up.
    """

    def __init__(self, embeddings: np.ndarray, classes: np.ndarray, side: int):
        """Sorts and cuts; the class docstring has the arguments."""
        self.side = side
        self.rows = np.argsort(classes, kind="stable")
        in_order = classes[self.rows]
        self.cuts = _cuts(in_order, side)
        self.classes = np.full((len(self), side), -1)
        for block in range(len(self)):
            self.classes[block, : self.size(block)] = in_order[
                self.cuts[block] : self.cuts[block + 1]
            ]
        self._embeddings = embeddings

    def __len__(self):
        """The number of blocks."""
        return len(self.cuts) - 1

    def size(self, block: int) -> int:
        """How many rows of a block are not filled up."""
        return self.cuts[block + 1] - self.cuts[block]

    def vectors(self, block: int) -> np.ndarray:
        """The rows of a block as vectors whose inner products rank as they do.

        Returns:
            float32 (side, dim) unit rows; of codes (side, bits) of ±1, whose inner
            product is bits − 2 · Hamming distance. Filled-up rows are 0.
        """
        rows = self._embeddings[self.rows[self.cuts[block] : self.cuts[block + 1]]]
        if rows.dtype != np.uint8:
            return unit_rows(rows, self.side)
        signs = np.zeros((self.side, 8 * rows.shape[1]), np.float32)
        np.multiply(np.unpackbits(rows, axis=1), 2, out=signs[: len(rows)])
        signs[: len(rows)] -= 1
        return signs

    def sharing(self, gallery: "ClassBlocks", block: int) -> range:
        """The blocks of a gallery that hold images of this block's classes."""
        first, last = self.classes[block, 0], self.classes[block, self.size(block) - 1]
        lasts = gallery.classes[np.arange(len(gallery)), np.diff(gallery.cuts) - 1]
        return range(
            int(np.searchsorted(lasts, first, side="left")),
            int(np.searchsorted(gallery.classes[:, 0], last, side="right")),
        )

    def same_class(self, block: int, gallery: "ClassBlocks", other: int) -> np.ndarray:
        """(side, side) booleans: true where a row and a row of the other agree."""
        return self.classes[block][:, np.newaxis] == gallery.classes[other]

    def in_given_order(self, values: np.ndarray) -> np.ndarray:
        """Brings (blocks, side) values into the order of the embeddings: (n,)."""
        filled = np.arange(self.side) < np.diff(self.cuts)[:, np.newaxis]
        scattered = np.empty(len(self.rows), values.dtype)
        scattered[self.rows] = values[filled]
        return scattered


def _cuts(classes, side):
    starts = np.append(0, np.flatnonzero(classes[1:] != classes[:-1]) + 1)
    starts = np.append(starts, len(classes))
    cuts = [0]
    while cuts[-1] < len(classes):
        full = min(cuts[-1] + side, len(classes))
        with_class = int(starts[np.searchsorted(starts, full, side="right") - 1])
        fits = cuts[-1] < with_class and full - with_class <= _EMPTY_SHARE * side
        cuts.append(with_class if fits else full)
    return np.array(cuts)
