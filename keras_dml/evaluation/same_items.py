"""Pairs of a query and a gallery image that are not compared."""

import numpy as np

from keras_dml.evaluation.class_blocks import ClassBlocks
from keras_dml.evaluation.comparable_rows import extremes


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
