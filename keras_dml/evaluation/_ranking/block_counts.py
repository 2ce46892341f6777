"""The counts of one block of queries: what comes before their positives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dml._similarity import Tile
from keras_dml._similarity import extremes
from keras_dml._similarity import ordered_integers

# Values brought into order at once: each takes some 100 bytes then.
_PIECE = 2**17


class BlockCounts:
    """Counts the negatives that come before the positives of each query of a block.

    First `add_positives` with all tiles that hold positives, then `set_bars`, then
    `count_negatives` with all tiles. What must not count is hidden: it reads as the
    lowest of `extremes`. Several threads may count negatives at once.

    Args:
        queries: how many queries there are.
        all_positives: whether `positives` is asked for, or the best positive alone.
        enough: as for `rank_counts`.

    Attributes:
        best_positive: (queries,) similarity of the nearest positive.
        positives_tied: int64 (queries,) positives that have it; 0 if there are none.
        negatives_above: int64 (queries,) negatives nearer than that one.
        negatives_tied: int64 (queries,) negatives exactly as near.
    """

    def __init__(
        self, queries: int, all_positives: bool = False, enough: int | None = None
    ):
        self.best_positive: Any = None
        self.positives_tied = np.zeros(queries, np.int64)
        self.negatives_above = np.zeros(queries, np.int64)
        self.negatives_tied = np.zeros(queries, np.int64)
        self._all_positives = all_positives
        self._enough = enough
        self._added: list[np.ndarray] = []
        self._lock = threading.Lock()

    def add_positives(self, similarities: np.ndarray) -> None:
        """Adds exact similarities of some positives of each query, (queries, any)."""
        lowest, _ = extremes(similarities.dtype)
        if self.best_positive is None:
            self.best_positive = np.full(len(similarities), lowest, similarities.dtype)
        best = np.maximum(similarities.max(axis=1), self.best_positive)
        self.positives_tied[best > self.best_positive] = 0
        self.positives_tied += np.count_nonzero(
            similarities == best[:, np.newaxis], axis=1
        )
        self.positives_tied[best == lowest] = 0
        self.best_positive = best
        if self._all_positives:
            self._added.append(similarities)

    def set_bars(self) -> None:
        """Sets the bar of each query, once all its positives have been added."""
        lowest, highest = extremes(self.best_positive.dtype)
        # No negative reaches the bar of a query without positives.
        self._bars = np.where(self.best_positive == lowest, highest, self.best_positive)
        if not self._all_positives:
            return
        added, self._added = self._added, []
        self._num_positives = sum(
            np.count_nonzero(some != lowest, axis=1) for some in added
        )
        queries, width = len(self._bars), max(1, self._num_positives.max())
        self._positives = np.empty((queries, width), self._bars.dtype)
        self._keys = np.empty((queries, width), np.int64)
        for part in pieces(queries, sum(some.shape[1] for some in added)):
            falling = -np.sort(-np.concatenate([some[part] for some in added], 1), 1)
            self._positives[part] = falling[:, :width]
            rows = np.arange(queries)[part]
            keys = _keys(rows, self._positives[part].ravel(), width)
            self._keys[part] = keys.reshape(-1, width)
        # Negatives in the gap above each positive and below the last one, and tied
        # with each.
        self._gaps = np.zeros((queries, width + 1), np.int32)
        self._ties = np.zeros_like(self._gaps)
        self._cutoffs = np.full(queries, highest, self._positives.dtype)
        self._raise_cutoffs(np.arange(queries))

    def count_negatives(self, tile: Tile) -> None:
        """Counts the negatives of a tile, each row of which is a query's.

        Where a value is so close to the bar that its rounding might decide, the exact
        one is compared.
        """
        nearest = tile.values.max(axis=1)
        reaching = np.flatnonzero(nearest >= self._bars - tile.margin)
        values = _take_rows(tile.values, reaching)
        bars = self._bars[reaching]
        low, high = bars[:, np.newaxis] - tile.margin, bars[:, np.newaxis] + tile.margin
        above = np.count_nonzero(values > high, axis=1)
        tied = np.count_nonzero(values >= low, axis=1) - above
        if tile.margin and tied.any():
            if tile.is_many(tied.sum()):
                tile.make_exact()
                return self.count_negatives(tile)
            rows, columns = np.nonzero((values >= low) & (values <= high))
            exact = tile.exact_at(reaching[rows], columns)
            above += np.bincount(rows[exact > bars[rows]], minlength=len(bars))
            tied = np.bincount(rows[exact == bars[rows]], minlength=len(bars))
        with self._lock:
            self.negatives_above[reaching] += above
            self.negatives_tied[reaching] += tied
            self._leave_out_counted(reaching)
            if self._all_positives:
                self._count_in_gaps(tile, nearest)

    @property
    def lowest(self) -> np.ndarray:
        """The lowest similarity of a negative that counts for each query."""
        if not self._all_positives:
            return self._bars
        return np.minimum(self._bars, self._cutoffs)

    def count_pairs(
        self,
        queries: np.ndarray,
        cosines: np.ndarray,
        margin: float,
        exact: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        """Counts some negatives, where all others are known to be below `lowest`.

        Args:
            queries: (pairs,) whose negative each is.
            cosines: (pairs,) float32, within the margin of the exact ones.
            margin: how far they may be off.
            exact: gives the exact cosines of some of the pairs, by their numbers.
        """
        bars, lowest = self._bars[queries], self.lowest[queries]
        near = cosines >= lowest - margin
        if not self._all_positives:
            near &= cosines <= bars + margin
        at = np.flatnonzero(near)
        cosines = cosines.copy()
        cosines[at] = exact(at)
        above, tied = (
            np.bincount(queries[found], minlength=len(self._bars))
            for found in (cosines > bars, cosines == bars)
        )
        with self._lock:
            self.negatives_above += above
            self.negatives_tied += tied
            self._leave_out_counted(slice(None))
            if self._all_positives and len(at):
                self._add_to_gaps(queries[at], cosines[at], np.ones(len(at), np.int64))
                self._raise_cutoffs(np.unique(queries[at]))

    def _leave_out_counted(self, queries):
        """Lets no negative reach the bar of those that are counted for enough."""
        if self._enough is not None:
            done = self.negatives_above[queries] >= self._enough
            bars = self._bars[queries]
            _, highest = extremes(bars.dtype)
            self._bars[queries] = np.where(done, highest, bars).astype(bars.dtype)

    def positives(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Gives what is known of all positives, once all negatives are counted.

        Returns:
            (queries, width) three times: the similarities of the positives, falling,
            and after them the lowest of `extremes`; negatives nearer than each; and, at
            the first of equal positives, negatives tied with it. Last, (queries,) how
            many positives there are, R. Of positives that are not among the first R the
            negatives are too few, but enough to place them beyond R.
        """
        above = np.cumsum(self._gaps[:, :-1], axis=1, dtype=np.int32)
        return self._positives, above, self._ties[:, :-1], self._num_positives

    def _count_in_gaps(self, tile, nearest):
        """Counts the negatives that reach the cutoff in the gaps where they fall."""
        reaching = np.flatnonzero(nearest >= self._cutoffs - tile.margin)
        if not len(reaching):
            return
        if not tile.margin:
            for part in pieces(len(reaching), tile.values.shape[1]):
                self._count_exact(tile, reaching[part])
            return
        near = _take_rows(tile.values, reaching)
        found = near >= self._cutoffs[reaching, np.newaxis] - tile.margin
        if tile.is_many(np.count_nonzero(found)):
            del near, found
            tile.make_exact()
            return self._count_in_gaps(tile, tile.values.max(axis=1))
        rows, columns = np.nonzero(found)
        rows = reaching[rows]
        self._add_to_gaps(
            rows, tile.exact_at(rows, columns), np.ones(len(rows), np.int64)
        )
        self._raise_cutoffs(reaching)

    def _count_exact(self, tile, queries):
        """Counts the negatives of some queries in the gaps, the tile being exact."""
        near = _take_rows(tile.values, queries)
        cutoffs = self._cutoffs[queries]
        rows, columns = np.nonzero(near > cutoffs[:, np.newaxis])
        # Those tied with the cutoff, which can be nearly all, are counted together.
        tied = np.count_nonzero(near == cutoffs[:, np.newaxis], axis=1)
        self._add_to_gaps(
            np.concatenate([queries[rows], queries]),
            np.concatenate([near[rows, columns], cutoffs]),
            np.concatenate([np.ones(len(rows), np.int64), tied]),
        )
        self._raise_cutoffs(queries)

    def _add_to_gaps(self, rows, values, times):
        """Adds so many negatives of each value to the gaps and ties of queries."""
        width = self._positives.shape[1]
        keys = _keys(rows, values)
        # How many positives are above each negative, and how many are not below it.
        in_order = self._keys.reshape(-1)
        not_below = np.searchsorted(in_order, keys, side="right") - rows * width
        above = np.searchsorted(in_order, keys, side="left") - rows * width
        equal = above < not_below
        at = rows * (width + 1)
        np.add.at(self._gaps.reshape(-1), at + not_below, times)
        np.add.at(self._ties.reshape(-1), (at + above)[equal], times[equal])

    def _raise_cutoffs(self, queries):
        """Raises cutoffs to the last positive that can still be among the first R."""
        for part in pieces(len(queries), self._positives.shape[1]):
            rows = queries[part]
            ranks = np.cumsum(self._gaps[rows, :-1], axis=1)
            ranks += np.arange(1, ranks.shape[1] + 1)
            within = np.count_nonzero(
                ranks <= self._num_positives[rows, np.newaxis], axis=1
            )
            last = self._positives[rows, within - 1]
            _, highest = extremes(last.dtype)
            self._cutoffs[rows] = np.where(within > 0, last, highest)


def pieces(rows: int, width: int) -> list[slice]:
    """Cuts rows of so many values into slices of `_PIECE` values, or of one row."""
    step = max(1, _PIECE // width)
    return [slice(start, start + step) for start in range(0, rows, step)]


def _take_rows(values, rows):
    # Of a transposed tile, taking columns of the tile itself is several times faster.
    if values.flags.c_contiguous:
        return values[rows]
    return np.take(values.T, rows, axis=1).T


def _keys(rows, values, each=1):
    """Gives integers that rise with the row, and in a row as the value falls.

    Args:
        rows: (r,) integers from 0 to 2^30.
        values: (r · each,) float32, or int32 from −1.
        each: values in a row.
    """
    if values.dtype == np.float32:
        values = ordered_integers(values)
    return np.repeat(rows.astype(np.int64) << 33, each) - values
