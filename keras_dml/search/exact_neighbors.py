"""Nearest neighbors by comparing with every row."""

import numpy as np

from keras_dml._similarity import ROW_MULTIPLE
from keras_dml._similarity import comparable_rows
from keras_dml._similarity import nearest_rows
from keras_dml.search.neighbors import Neighbors

_ROWS_FILE = "rows.npy"


class ExactNeighbors(Neighbors):
    """An index that compares each query with every row, by batched products.

    Of equally similar rows the one that was indexed first comes first, and equal rows
    are equally similar: cosines too near to the k-th for a float32 product to order
    them are computed again in float64. Beside the rows, in float32 or packed, and the
    result, a search takes 64 MiB for scores, or one query's scores if those are more,
    whatever k is.

    Example:
        >>> index = ExactNeighbors()
        >>> index.build([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]], ids=[7, 8, 9])
        >>> ids, similarities = index.search([[0.1, 0.9]], k=2)
        >>> ids.tolist()
        [[8, 9]]
    """

    kind = "exact"
    _most_rows = 2**48

    @property
    def parameters(self) -> dict[str, int]:
        """Empty, as the constructor takes no arguments."""
        return {}

    def _build(self, metric, dim, count, blocks):
        index = None
        start = 0
        for block in map(_comparable, blocks):
            if index is None:
                padded = -(-count // ROW_MULTIPLE) * ROW_MULTIPLE
                index = np.zeros((padded, block.shape[1]), block.dtype)
            index[start : start + len(block)] = block
            start += len(block)
        return index

    def _search(self, block, k):
        return nearest_rows(
            _comparable(block), self._index, self.count, k, self.metric == "hamming"
        )

    def _write(self, folder):
        rows = self._index[: self.count]
        if self.metric == "hamming":
            packed = rows.dtype == np.uint8
            rows = rows[:, : self.dim] if packed else np.packbits(rows > 0, axis=1)
        np.save(folder / _ROWS_FILE, rows)

    def _read(self, folder):
        rows = np.load(folder / _ROWS_FILE, mmap_mode="r", allow_pickle=False)
        dtype = np.uint8 if self.metric == "hamming" else np.float32
        if rows.shape != (self.count, self.dim) or rows.dtype != dtype:
            raise ValueError(f"{_ROWS_FILE} holds {rows.dtype} of shape {rows.shape}")
        return self._build(self.metric, self.dim, self.count, [rows])


def _comparable(block):
    return comparable_rows(block, 1) if block.dtype == np.uint8 else block
