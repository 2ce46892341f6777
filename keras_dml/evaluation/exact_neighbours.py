"""Nearest neighbours by comparing with every row."""

import numpy as np

from keras_dml.evaluation.comparable_rows import comparable_rows
from keras_dml.evaluation.neighbours import Neighbours
from keras_dml.evaluation.tile import Tile

_TILE_BYTES = 64 * 2**20
_ROWS_FILE = "rows.npy"

_ROW_MULTIPLE = 64


class ExactNeighbours(Neighbours):
    """An index that compares each query with every row, by batched products.

    Of equally similar rows the one built in first comes first, and equal rows are
    equally similar: cosines too near to the k-th to trust the order in which a matrix
    product summed them are `exact_cosines`. Beside the rows, in
    float32 or packed, and the result, a search takes 64 MiB for scores, or one query's
    scores if those are more, whatever k is.

    Example:
        >>> index = ExactNeighbours()
        >>> index.build([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]], ids=[7, 8, 9])
        >>> ids, similarities = index.search([[0.1, 0.9]], k=2)
        >>> ids.tolist()
        [[8, 9]]
    """

    kind = "exact"
    _most_rows = 2**48

    @property
    def parameters(self) -> dict[str, int]:
        """There are none."""
        return {}

    def _built(self, metric, dim, rows, blocks):
        held = None
        start = 0
        for block in map(_comparable, blocks):
            if held is None:
                count = -(-rows // _ROW_MULTIPLE) * _ROW_MULTIPLE
                held = np.zeros((count, block.shape[1]), block.dtype)
            held[start : start + len(block)] = block
            start += len(block)
        return held

    def _nearest(self, block, k):
        block = _comparable(block)
        rows = np.empty((len(block), k), np.int64)
        nearness = np.empty((len(block), k), np.float32)
        step = max(1, _TILE_BYTES // (4 * len(self._index)))
        for start in range(0, len(block), step):
            part = slice(start, start + step)
            tile = Tile(block[part], self._index, self.metric == "hamming")
            if self.metric == "hamming":
                tile.values = _minus_distances(tile.values, block)
            tile.values[:, self.count :] = -np.inf
            _make_first_exact(tile, k, self.count)
            rows[part] = _first_columns(tile.values, k, self.count)
            nearness[part] = np.take_along_axis(tile.values, rows[part], 1)
        return rows, nearness

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
        return self._built(self.metric, self.dim, self.count, [rows])


def _comparable(block):
    return comparable_rows(block, 1) if block.dtype == np.uint8 else block


def _minus_distances(tile, block):
    if tile.dtype != np.float32:  # equal bits of so many
        return (tile - 8 * block.shape[1]).astype(np.float32)
    tile -= block.shape[1]  # equal bits less different ones
    tile /= 2
    return tile


def _make_first_exact(tile, k, count):
    """Makes those values exact that may be among the k highest of their row."""
    if not tile.margin:
        return
    bounds = _bounds(tile.values, k, count) - 2 * tile.margin
    reached = tile.values >= bounds[:, np.newaxis]
    if tile.is_many(np.count_nonzero(reached)):
        tile.make_exact()
        return
    at = np.nonzero(reached)
    tile.values[at] = tile.exact_at(*at)


def _bounds(tile, k, count):
    """For each row a value that k columns at least reach, and not many more."""
    if k == 1:
        return tile.max(axis=1)
    groups = tile.shape[1] // _ROW_MULTIPLE
    if k > groups:
        return np.array([np.partition(scores[:count], -k)[-k] for scores in tile])
    # Each of the k best groups has a score as high as its maximum, so the k-th highest
    # maximum is no higher than the k-th highest score.
    maxima = tile.reshape(len(tile), _ROW_MULTIPLE, groups).max(axis=1)
    return np.partition(maxima, groups - k, axis=1)[:, groups - k]


def _first_columns(tile, k, count):
    if k == 1:
        return tile.argmax(axis=1)[:, np.newaxis]
    columns = np.empty((len(tile), k), np.int64)
    bounds = _bounds(tile, k, count)
    for row, scores in enumerate(tile):
        # Every column that reaches the bound: partitioning the columns themselves
        # would choose among tied ones at random.
        reached = np.flatnonzero(scores >= bounds[row])
        columns[row] = reached[np.argsort(-scores[reached], kind="stable")[:k]]
    return columns
