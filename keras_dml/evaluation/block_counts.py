"""How many images come before the images of a query's class, for a block of queries."""

import threading

import numpy as np

from keras_dml.evaluation.comparable_rows import extremes
from keras_dml.evaluation.tile import Tile


class BlockCounts:
    """Counts, for each query of a block, the images of other classes before its own.

    First `take_own` is told the similarities of the images of the queries' classes,
    then `count_others` the tiles of the others. What must not count reads as the lowest
    of `extremes`. Several threads may count at once.

    Of all images of its class but the nearest, only those that can be among the first R
    are counted, R being how many there are: an image is given up, and `places` says
    too little of it, once so many others come before it that its place is beyond R.

    Args:
        queries: how many queries there are.
        every: whether `places` is asked for, or the nearest image of the class alone.

    Attributes:
        best: (queries,) similarity of the nearest image of the query's class.
        best_ties: int64 (queries,) images of the class that have it; 0 for none.
        above: int64 (queries,) images of other classes nearer than that one.
        tied: int64 (queries,) images of other classes exactly as near.
    """

    def __init__(self, queries: int, every: bool):
        """Starts at 0; the class docstring has the arguments."""
        self.best = None
        self.best_ties, self.above, self.tied = np.zeros((3, queries), np.int64)
        self._every = every
        self._taken = []
        self._lock = threading.Lock()

    def take_own(self, own: np.ndarray) -> None:
        """Takes exact similarities of images of each query's class, (queries, any)."""
        lowest, _ = extremes(own.dtype)
        best = own.max(axis=1)
        if self.best is None:
            self.best = np.full(len(own), lowest, own.dtype)
        nearest = np.maximum(best, self.best)
        self.best_ties[nearest > self.best] = 0
        self.best_ties += np.count_nonzero(own == nearest[:, np.newaxis], axis=1)
        self.best_ties[nearest == lowest] = 0
        self.best = nearest
        if self._every:
            self._taken.append(own)

    def own_taken(self) -> None:
        """Says that `take_own` has been told of all images of the class."""
        lowest, highest = extremes(self.best.dtype)
        self._to_reach = np.where(self.best == lowest, highest, self.best)
        if not self._every:
            return
        own = -np.sort(-np.concatenate(self._taken, axis=1), axis=1)
        self._taken = []
        self._relevant = np.count_nonzero(own != lowest, axis=1)
        self._own = own[:, : max(1, self._relevant.max())]
        width = self._own.shape[1]
        self._keys = _keys(np.arange(len(own)), self._own.ravel(), width)
        # Others in each gap between the class's images, and tied with each of those.
        self._in_gap = np.zeros((len(own), width + 1), np.int32)
        self._tied = np.zeros_like(self._in_gap)
        self._last_hopeful = np.full(len(own), highest, own.dtype)
        self._give_up(np.arange(len(own)))

    def count_others(self, tile: Tile) -> None:
        """Counts the images of other classes in a tile, each row of which is a query's.

        Where a value is so near to one it is compared with that its rounding might
        decide, the exact one takes its place.
        """
        nearest = tile.values.max(axis=1)
        reaching = np.flatnonzero(nearest >= self._to_reach - tile.margin)
        near = _rows(tile.values, reaching)
        bars = self._to_reach[reaching]
        low, high = bars[:, np.newaxis] - tile.margin, bars[:, np.newaxis] + tile.margin
        above = np.count_nonzero(near > high, axis=1)
        level = np.count_nonzero(near >= low, axis=1) - above
        if tile.margin and level.any():
            if tile.is_many(level.sum()):
                tile.make_exact()
                return self.count_others(tile)
            rows, columns = np.nonzero((near >= low) & (near <= high))
            exact = tile.exact_at(reaching[rows], columns)
            above += np.bincount(rows[exact > bars[rows]], minlength=len(bars))
            level = np.bincount(rows[exact == bars[rows]], minlength=len(bars))
        with self._lock:
            self.above[reaching] += above
            self.tied[reaching] += level
            if self._every:
                self._place(tile, nearest)

    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What is known of all images of each query's class.

        Returns:
            (queries, width) three times: the similarities of the images of the class,
            falling, and after them the lowest of `extremes`; images of other classes
            nearer than each; and, at the first of equal ones, images of other classes
            tied with it. Last, (queries,) how many images of the class there are.
        """
        above = np.cumsum(self._in_gap[:, :-1], axis=1)
        return self._own, above, self._tied[:, :-1], self._relevant

    def _place(self, tile, nearest):
        reaching = np.flatnonzero(nearest >= self._last_hopeful - tile.margin)
        if not len(reaching):
            return
        near = _rows(tile.values, reaching)
        bars = self._last_hopeful[reaching]
        if tile.margin:
            found = near >= bars[:, np.newaxis] - tile.margin
            if tile.is_many(np.count_nonzero(found)):
                tile.make_exact()
                return self._place(tile, tile.values.max(axis=1))
            rows, columns = np.nonzero(found)
            values = tile.exact_at(reaching[rows], columns)
            rows, times = reaching[rows], np.ones(len(rows), np.int64)
        else:
            rows, columns = np.nonzero(near > bars[:, np.newaxis])
            # Those level with the bar, which can be nearly all, are counted together.
            level = np.count_nonzero(near == bars[:, np.newaxis], axis=1)
            values = np.concatenate([near[rows, columns], bars])
            times = np.concatenate([np.ones(len(rows), np.int64), level])
            rows = np.concatenate([reaching[rows], reaching])
        width = self._own.shape[1]
        keys = _keys(rows, values)
        not_below = np.searchsorted(self._keys, keys, side="right") - rows * width
        below = np.searchsorted(self._keys, keys, side="left") - rows * width
        equal = below < not_below
        at = rows * (width + 1)
        np.add.at(self._in_gap.reshape(-1), at + not_below, times)
        np.add.at(self._tied.reshape(-1), (at + below)[equal], times[equal])
        self._give_up(reaching)

    def _give_up(self, rows):
        """Raises the bar to the last image that can be among the first R."""
        before = np.cumsum(self._in_gap[rows, :-1], axis=1)
        before += np.arange(1, before.shape[1] + 1)
        hopeful = np.count_nonzero(before <= self._relevant[rows, np.newaxis], axis=1)
        last = self._own[rows, hopeful - 1]
        _, highest = extremes(last.dtype)
        self._last_hopeful[rows] = np.where(hopeful > 0, last, highest)


def _rows(tile, rows):
    # Of a transposed tile, taking columns of the tile itself is several times faster.
    if tile.flags.c_contiguous:
        return tile[rows]
    return np.take(tile.T, rows, axis=1).T


def _keys(rows, values, each=1):
    """Integers that rise with the row, and in a row as the value falls.

    Args:
        rows: (r,) integers from 0 to 2^30.
        values: (r · each,) float32, or int32 from −1.
        each: values in a row.
    """
    if values.dtype == np.float32:
        # Of equal sign, floats are in the order of their bits. Adding 0 mends −0.
        bits = (values + np.float32(0)).view(np.int32)
        values = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    return np.repeat(rows.astype(np.int64) << 33, each) - values
