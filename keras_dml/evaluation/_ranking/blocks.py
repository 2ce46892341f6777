"""Embeddings in the order of their classes, a block at a time."""

import numpy as np

from keras_dml._similarity import comparable_rows
from keras_dml._similarity import extremes
from keras_dml._similarity import row_scales


class ClassBlocks:
    """Rows sorted by class and cut into blocks of one size.

    All blocks are filled up with zero rows to one shape.

    Args:
        embeddings: (n, dim) float, or (n, bytes) uint8 packed codes; may be
            memory-mapped, as a block is read when it is asked for.
        classes: (n,) integers from 0.
        side: rows in a block, a multiple of 64.
        held_bytes: the last blocks are kept once made ready, as many as fit in this.

    Attributes:
        side: as given.
        order: (n,) the row numbers, in the order of their classes.
        cuts: (blocks + 1,) where in `order` each block begins, and the last ends.
        classes: (blocks, side) the class of each row, -1 for those filled up.
        are_codes: whether the rows are packed codes.
    """

    def __init__(
        self,
        embeddings: np.ndarray,
        classes: np.ndarray,
        side: int,
        held_bytes: int = 0,
    ):
        """Sorts and cuts; the class docstring has the arguments."""
        self.side = side
        self.order = np.argsort(classes, kind="stable")
        in_order = classes[self.order]
        sizes = np.bincount(classes)
        self._ends = np.cumsum(sizes)
        self._starts = self._ends - sizes
        self.cuts = block_cuts(sizes, side)
        self.classes = np.full((len(self), side), -1)
        for block in range(len(self)):
            self.classes[block, : self.size(block)] = in_order[
                self.cuts[block] : self.cuts[block + 1]
            ]
        self.are_codes = embeddings.dtype == np.uint8
        self._embeddings = embeddings
        self._scales = None if self.are_codes else row_scales(embeddings)
        self._held, self._held_bytes = {}, held_bytes

    def __len__(self):
        """The number of blocks."""
        return len(self.cuts) - 1

    def size(self, block: int) -> int:
        """How many rows of a block are not filled up."""
        return self.cuts[block + 1] - self.cuts[block]

    def rows(self, block: int) -> np.ndarray:
        """The rows of a block as `comparable_rows` makes them, (side, width)."""
        if block in self._held:
            return self._held[block]
        order = self.order[self.cuts[block] : self.cuts[block + 1]]
        scales = None if self._scales is None else self._scales[:, order]
        rows = comparable_rows(self._embeddings[order], self.side, scales)
        if (len(self) - block) * rows.nbytes <= self._held_bytes:
            self._held[block] = rows
        return rows

    def spans(self, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in `order` classes begin and end; at 0 both for those not in it."""
        known = (classes >= 0) & (classes < len(self._starts))
        at = np.where(known, classes, 0)
        return np.where(known, self._starts[at], 0), np.where(known, self._ends[at], 0)

    def sharing(self, classes: np.ndarray) -> range:
        """The blocks with rows of `classes`, which rise; the first one if none has."""
        starts, ends = self.spans(classes)
        starts, ends = starts[starts < ends], ends[starts < ends]
        if not len(starts):
            return range(1)
        return range(
            int(np.searchsorted(self.cuts, starts[0], side="right")) - 1,
            int(np.searchsorted(self.cuts, ends[-1], side="left")),
        )

    def in_given_order(self, values: np.ndarray) -> np.ndarray:
        """Brings (blocks, side) values into the order of the embeddings: (n,)."""
        scattered = np.empty(len(self.order), values.dtype)
        scattered[self.order] = values[self.classes >= 0]
        return scattered


_MULTIPLE = 64
# A block ends where a class does if that leaves at most this share of it empty.
_EMPTY_SHARE = 1 / 8


def block_side(sizes: np.ndarray, most: int, share: int = 1) -> int:
    """Chooses the rows of a block so that few of all blocks are left empty.

    Args:
        sizes: (classes,) how many rows each class has, 0 included; one row in all at
            least.
        most: rows of a block at most, a multiple of 64.
        share: by what the number of blocks is to be divisible, as when as many workers
            share them.

    Returns:
        A multiple of 64, up to `most`, and not far below it if there are rows enough.
    """
    rows = int(sizes.sum())
    least = -(-rows // (most * share))
    sides = dict.fromkeys(
        -(-rows // (shares * share * _MULTIPLE)) * _MULTIPLE
        for shares in range(least, least + least // 3 + 2)
    )

    def made(side):
        blocks = len(block_cuts(sizes, side)) - 1
        return -(-blocks // share) * share * side

    return min(sides, key=made)


def block_cuts(sizes: np.ndarray, side: int) -> np.ndarray:
    """Cuts rows into blocks, where classes end if that leaves little of them empty.

    Args:
        sizes: as for `block_side`.
        side: rows of a block at most.

    Returns:
        (blocks + 1,) the first row of each block, and the number of rows.
    """
    ends = np.append(0, np.cumsum(sizes))
    rows = ends[-1]
    cuts = [0]
    while cuts[-1] < rows:
        full = min(cuts[-1] + side, rows)
        with_class = int(ends[np.searchsorted(ends, full, side="right") - 1])
        fits = cuts[-1] < with_class and full - with_class <= _EMPTY_SHARE * side
        cuts.append(with_class if fits else full)
    return np.array(cuts)


class SameItems:
    """Hides the similarity of each query to what is the query itself.

    Args:
        queries: the blocks of queries.
        gallery: the blocks of the gallery.
        query_rows: (pairs,) rows of the query embeddings.
        gallery_rows: (pairs,) the row of the gallery that each is not compared with.
    """

    def __init__(
        self,
        queries: ClassBlocks,
        gallery: ClassBlocks,
        query_rows: np.ndarray,
        gallery_rows: np.ndarray,
    ):
        """Sorts the pairs by block; the class docstring has the arguments."""
        self._queries, self._gallery = queries, gallery
        blocks, self._rows = _places(queries, query_rows)
        others, self._columns = _places(gallery, gallery_rows)
        numbers = blocks * len(gallery) + others
        order = np.argsort(numbers, kind="stable")
        self._numbers = numbers[order]
        self._rows, self._columns = self._rows[order], self._columns[order]

    def hide(self, tile: np.ndarray, block: int, other: int) -> None:
        """Overwrites similarities of a block of queries and one of the gallery."""
        number = block * len(self._gallery) + other
        pairs = slice(*np.searchsorted(self._numbers, [number, number + 1]))
        lowest, _ = extremes(tile.dtype)
        tile[self._rows[pairs], self._columns[pairs]] = lowest


def _places(blocks, rows):
    """The block of each row, and its place in there."""
    place = np.empty(len(blocks.order), np.int64)
    place[blocks.order] = np.arange(len(place))
    block = np.searchsorted(blocks.cuts, place[rows], side="right") - 1
    return block, place[rows] - blocks.cuts[block]
