"""Embeddings sorted by class and cut into blocks, the rows and columns of tiles."""

import numpy as np

from keras_dml._similarity import comparable_rows
from keras_dml._similarity import extremes
from keras_dml._similarity import row_scales

# Block sizes are a multiple of this.
_MULTIPLE = 64
# A block ends where a class does if that leaves at most this share of it empty.
_EMPTY_SHARE = 1 / 8


class ClassBlocks:
    """Rows sorted by class and cut into blocks, each padded with zero rows to one size.

    Args:
        embeddings: (n, dim) float, or (n, bytes) uint8 packed codes; may be
            memory-mapped, as a block is read when it is asked for.
        classes: (n,) integers from 0.
        side: rows in a block, a multiple of 64.
        cache_bytes: the last blocks are kept once prepared, as many as fit in this.

    Attributes:
        side: as given.
        order: (n,) the row numbers, sorted by class.
        cuts: (blocks + 1,) where in `order` each block begins, and the last one ends.
        classes: (blocks, side) the class of each row, -1 for padding.
        are_codes: whether the rows are packed codes.
        embeddings: as given.
        scales: (1 or 2, n, 1) their `row_scales`; None for codes.
    """

    def __init__(
        self,
        embeddings: np.ndarray,
        classes: np.ndarray,
        side: int,
        cache_bytes: int = 0,
    ):
        self.side = side
        self.order = np.argsort(classes, kind="stable")
        sorted_classes = classes[self.order]
        sizes = np.bincount(classes)
        self._ends = np.cumsum(sizes)
        self._starts = self._ends - sizes
        self.cuts = block_cuts(sizes, side)
        self.classes = np.full((len(self), side), -1)
        for block in range(len(self)):
            self.classes[block, : self.size(block)] = sorted_classes[
                self.cuts[block] : self.cuts[block + 1]
            ]
        self.are_codes = embeddings.dtype == np.uint8
        self.embeddings = embeddings
        self.scales = None if self.are_codes else row_scales(embeddings)
        self._cache: dict[int, np.ndarray] = {}
        self._cache_bytes = cache_bytes

    def __len__(self) -> int:
        """The number of blocks."""
        return len(self.cuts) - 1

    def size(self, block: int) -> int:
        """The number of rows of a block before its padding."""
        return self.cuts[block + 1] - self.cuts[block]

    def numbers(self, block: int) -> np.ndarray:
        """The row numbers of a block before its padding."""
        return self.order[self.cuts[block] : self.cuts[block + 1]]

    def rows(self, block: int) -> np.ndarray:
        """Prepares the rows of a block by `comparable_rows`: (side, width)."""
        if block in self._cache:
            return self._cache[block]
        order = self.numbers(block)
        scales = None if self.scales is None else self.scales[:, order]
        rows = comparable_rows(self.embeddings[order], self.side, scales)
        if (len(self) - block) * rows.nbytes <= self._cache_bytes:
            self._cache[block] = rows
        return rows

    def spans(self, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in `order` each class begins and ends; both 0 if it has no rows."""
        known = (classes >= 0) & (classes < len(self._starts))
        at = np.where(known, classes, 0)
        return np.where(known, self._starts[at], 0), np.where(known, self._ends[at], 0)

    def blocks_with(self, classes: np.ndarray) -> range:
        """The blocks with rows of sorted `classes`; the first one if there are none."""
        starts, ends = self.spans(classes)
        starts, ends = starts[starts < ends], ends[starts < ends]
        if not len(starts):
            return range(1)
        return range(
            int(np.searchsorted(self.cuts, starts[0], side="right")) - 1,
            int(np.searchsorted(self.cuts, ends[-1], side="left")),
        )

    def in_original_order(self, values: np.ndarray) -> np.ndarray:
        """Brings (blocks, side) values into the order of the embeddings: (n,)."""
        original = np.empty(len(self.order), values.dtype)
        original[self.order] = values[self.classes >= 0]
        return original


def block_side(sizes: np.ndarray, most: int, share: int = 1) -> int:
    """Chooses the rows of a block so that the blocks hold little padding.

    Args:
        sizes: (classes,) how many rows each class has, 0 included; at least one row in
            all.
        most: rows of a block at most, a multiple of 64.
        share: the number of blocks is padded to a multiple of this, the number of
            workers that share them.

    Returns:
        A multiple of 64, up to `most`, and not far below it if there are rows enough.
    """
    rows = int(sizes.sum())
    least = -(-rows // (most * share))
    sides = dict.fromkeys(
        -(-rows // (shares * share * _MULTIPLE)) * _MULTIPLE
        for shares in range(least, least + least // 3 + 2)
    )

    def rows_with_padding(side):
        blocks = len(block_cuts(sizes, side)) - 1
        return -(-blocks // share) * share * side

    return min(sides, key=rows_with_padding)


def block_cuts(sizes: np.ndarray, side: int) -> np.ndarray:
    """Cuts rows into blocks, between two classes where that needs little padding.

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
    """Hides the similarity of each query to the gallery images that it is itself.

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
        self._gallery_blocks = len(gallery)
        query_blocks, rows = _positions(queries, query_rows)
        gallery_blocks, columns = _positions(gallery, gallery_rows)
        tiles = query_blocks * len(gallery) + gallery_blocks
        order = np.argsort(tiles, kind="stable")
        self._tiles = tiles[order]
        self._rows, self._columns = rows[order], columns[order]

    def hide(self, values: np.ndarray, query_block: int, gallery_block: int) -> None:
        """Overwrites them in the tile of two blocks with the lowest of `extremes`."""
        tile = query_block * self._gallery_blocks + gallery_block
        pairs = slice(*np.searchsorted(self._tiles, [tile, tile + 1]))
        lowest, _ = extremes(values.dtype)
        values[self._rows[pairs], self._columns[pairs]] = lowest


def hide_positives(
    values: np.ndarray,
    queries: ClassBlocks,
    query_block: int,
    gallery: ClassBlocks,
    gallery_block: int,
) -> None:
    """Overwrites pairs of one class in the tile of two blocks, as `SameItems` does."""
    classes = queries.classes[query_block][:, np.newaxis]
    values[classes == gallery.classes[gallery_block]], _ = extremes(values.dtype)


def hide_padding(
    values: np.ndarray,
    queries: ClassBlocks,
    query_block: int,
    gallery: ClassBlocks,
    gallery_block: int,
) -> None:
    """Overwrites the padding in the tile of two blocks, as `SameItems` does."""
    lowest, _ = extremes(values.dtype)
    values[queries.size(query_block) :] = lowest
    values[:, gallery.size(gallery_block) :] = lowest


def _positions(blocks, rows):
    """The block of each row of the embeddings, and its row in that block."""
    position = np.empty(len(blocks.order), np.int64)
    position[blocks.order] = np.arange(len(position))
    block = np.searchsorted(blocks.cuts, position[rows], side="right") - 1
    return block, position[rows] - blocks.cuts[block]
