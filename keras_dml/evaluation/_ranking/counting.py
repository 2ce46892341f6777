"""Counts the images that come before those of each query's class, without sorting.

A query's *positives* are the gallery images of its class, itself left out; all others
are its *negatives*. Its nearest image of its class has rank 1 + the number of negatives
that are nearer than that best positive, so Recall@K needs that count and no list of
neighbors. To find it, queries and gallery are sorted by class and cut into blocks, and
the similarities of two blocks are a tile, one matrix product:

                       gallery, sorted by class
                a a a b   b b c c   c d d d
              a x + + .   . . . .   . . . .
    queries,  a + x + .   . . . .   . . . .       x  the query itself
    sorted    a + + x .   . . . .   . . . .       +  a positive
    by class  b . . . x   + + . .   . . . .       .  a negative

              b . . . +   x + . .   . . . .
              b . . . +   + x . .   . . . .
              c . . . .   . . x +   + . . .
              c . . . .   . . + x   + . . .

              c . . . .   . . + +   x . . .
              d . . . .   . . . .   . x + +
              d . . . .   . . . .   . + x +
              d . . . .   . . . .   . + + x

1. Positives lie in a few tiles along the diagonal. Those tiles are made first; the
   similarity of a query's best positive is its *bar*.
2. Then every tile is made. The query itself and its positives are hidden, and the
   negatives above the bar are counted, and those level with it: ties. Of large sets
   `bounds.py` finds the few pairs of a tile that may reach a bar, if their spectrum is
   steep enough for that, and only these are compared.
3. Where the queries search one another, similarity is symmetric. Tiles below the
   diagonal are transposed ones from above it, so each serves two blocks of queries.
4. A matrix product may be off by its roundings (`_similarity`). Positives are always
   the exact cosines, and so is each negative close enough to the bar for rounding to
   decide. So equal images tie exactly, wherever in a tile they stand.
5. R-precision and MAP@R ask for the ranks of all R positives, as far as they are among
   the first R. So a query's positives are sorted, and each negative is counted in the
   gap between two of them where it falls. Negatives below the *cutoff*, the last
   positive that can still be among the first R, are ignored; it rises as others are
   counted.

`rank_counts` runs this on all cores that the process may use; a `BlockCounts` holds the
counts of one block.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import threadpoolctl

from keras_dml._similarity import Tile
from keras_dml._similarity import extremes
from keras_dml._similarity import ordered_integers
from keras_dml.evaluation._ranking.blocks import ClassBlocks
from keras_dml.evaluation._ranking.blocks import SameItems
from keras_dml.evaluation._ranking.blocks import block_side
from keras_dml.evaluation._ranking.blocks import hide_padding
from keras_dml.evaluation._ranking.blocks import hide_positives
from keras_dml.evaluation._ranking.bounds import find_bounds
from keras_dml.evaluation._ranking.processors import usable_processors

# Rows of a block at most. Larger ones are no faster, and two cores stay below 100 MB.
SIDE = 1408
CODE_SIDE = 1024
# Bytes of prepared rows, and tiles with positives, that are kept for step 2.
CACHE_BYTES = 8 * 2**20
_CACHED_TILES = 2
# Positives of queries that step 5 counts for at the same time.
_MOST_POSITIVES = 2**22
# Values brought into order at once: each takes some 100 bytes then.
_PIECE = 2**17


def rank_counts(
    queries: np.ndarray,
    query_classes: np.ndarray,
    gallery: np.ndarray | None,
    gallery_classes: np.ndarray,
    measure: Callable[[BlockCounts], np.ndarray],
    all_positives: bool = False,
    same: tuple[np.ndarray, np.ndarray] | None = None,
    enough: int | None = None,
) -> np.ndarray:
    """Measures each query by how many negatives come before its positives.

    Memory beside the inputs: for each core two to five tiles of `4 * SIDE²` bytes and
    two blocks of rows, `CACHE_BYTES` for blocks that are kept, and with
    `all_positives` two tiles more for each core, and some 30 bytes for each of
    `_MOST_POSITIVES` in all, or of the positives of 64 queries if those are more.

    Args:
        queries: (n, dim) float or (n, bytes) uint8, checked by `checked_pair`.
        query_classes: (n,) int64 from 0.
        gallery: (m, dim) or (m, bytes), or None: the queries search one another, each
            left out itself by its row.
        gallery_classes: (m,) int64; if gallery is None, the same as `query_classes`.
        measure: gives (figures, queries) of a block of queries that has been counted.
        all_positives: whether `measure` calls `BlockCounts.positives`.
        same: rows of queries and of gallery, in pairs, that are not compared.
        enough: a query with so many negatives above the bar is not counted for any
            more, so that `negatives_above` may be too low, but not below this.

    Returns:
        (figures, n), as `measure` gives them.
    """
    side = CODE_SIDE if queries.dtype == np.uint8 else SIDE
    sizes, gallery_sizes = np.bincount(query_classes), np.bincount(gallery_classes)
    most = gallery_sizes.max() if all_positives else 0
    new_counts = functools.partial(
        BlockCounts, all_positives=all_positives, enough=enough
    )
    if gallery is None and most * len(queries) <= _MOST_POSITIVES:
        side = block_side(sizes, side)
        blocks = ClassBlocks(queries, query_classes, side, CACHE_BYTES)
        bounds = find_bounds(blocks, blocks, all_positives, enough)
        measured = _count_symmetric(blocks, measure, new_counts, bounds)
    else:
        if gallery is None:
            gallery = queries
            same = np.arange(len(queries)), np.arange(len(queries))
        gallery_side = block_side(gallery_sizes, side)
        searched = ClassBlocks(gallery, gallery_classes, gallery_side, CACHE_BYTES)
        workers = usable_processors()
        side = block_side(sizes, side, workers)
        # Each core counts for all positives of a block of queries.
        while side > 64 and most * side * workers > _MOST_POSITIVES:
            side = -(-side // 128) * 64
        blocks = ClassBlocks(queries, query_classes, side)
        same_items = SameItems(blocks, searched, *(same or np.empty((2, 0), np.int64)))
        bounds = find_bounds(blocks, searched, all_positives, enough)
        measured = _count_by_block(
            blocks, searched, same_items, measure, new_counts, bounds
        )
    return np.array(
        [blocks.in_original_order(figure) for figure in np.stack(measured, axis=1)]
    )


def _count_symmetric(blocks, measure, new_counts, bounds):
    """Counts where the queries search one another: tiles on and above the diagonal."""
    every_row = np.arange(len(blocks.order))
    same = SameItems(blocks, blocks, every_row, every_row)
    counts = [new_counts(blocks.side) for _ in range(len(blocks))]
    diagonal_counted = np.zeros(len(blocks), bool)

    def tile_of(first, second):
        tile = Tile(blocks.rows(first), blocks.rows(second), blocks.are_codes)
        hide_padding(tile.values, blocks, first, blocks, second)
        return tile

    def add_positives(block):
        with_positives = blocks.blocks_with(blocks.classes[block])
        for other in with_positives:
            tile = tile_of(block, other)
            same.hide(tile.values, block, other)
            counts[block].add_positives(_positives(tile, blocks, block, blocks, other))
        counts[block].set_bars()
        if len(with_positives) == 1:
            # It holds all positives of the block, so it need not be made again.
            hide_positives(tile.values, blocks, block, blocks, block)
            counts[block].count_negatives(tile)
            diagonal_counted[block] = True

    def count_negatives(first):
        with_positives = blocks.blocks_with(blocks.classes[first])
        coordinates = None if bounds is None else bounds.rows(first)
        for second in range(first + diagonal_counted[first], len(blocks)):
            if bounds is not None and second not in with_positives:
                both = counts[first], counts[second]
                pairs = bounds.pairs(
                    coordinates, first, second, *(one.lowest for one in both)
                )
                if pairs is not None:
                    rows, columns, cosines, exact = pairs
                    both[0].count_pairs(rows, cosines, bounds.margin, exact)
                    both[1].count_pairs(columns, cosines, bounds.margin, exact)
                    continue
            tile = tile_of(first, second)
            if second in with_positives:
                hide_positives(tile.values, blocks, first, blocks, second)
            counts[first].count_negatives(tile)
            if first != second:
                counts[second].count_negatives(tile.T)

    in_parallel(add_positives, range(len(blocks)))
    in_parallel(count_negatives, range(len(blocks)))
    return list(map(measure, counts))


def _count_by_block(blocks, gallery, same, measure, new_counts, bounds):
    """Counts a block of queries at a time, each against the whole gallery."""

    def measured(block):
        counts = new_counts(blocks.side)
        rows = blocks.rows(block)
        with_positives = gallery.blocks_with(blocks.classes[block])
        coordinates = None if bounds is None else bounds.rows(block)
        cached = {}

        def tile_of(other):
            tile = Tile(rows, gallery.rows(other), blocks.are_codes)
            hide_padding(tile.values, blocks, block, gallery, other)
            same.hide(tile.values, block, other)
            return tile

        for other in with_positives:
            tile = tile_of(other)
            counts.add_positives(_positives(tile, blocks, block, gallery, other))
            if len(cached) < _CACHED_TILES:
                cached[other] = tile
        counts.set_bars()
        for other in range(len(gallery)):
            if bounds is not None and other not in with_positives:
                pairs = bounds.pairs(
                    coordinates, block, other, counts.lowest, None, same.hide
                )
                if pairs is not None:
                    found, _, cosines, exact = pairs
                    counts.count_pairs(found, cosines, bounds.margin, exact)
                    continue
            tile = cached.pop(other) if other in cached else tile_of(other)
            if other in with_positives:
                hide_positives(tile.values, blocks, block, gallery, other)
            counts.count_negatives(tile)
        return measure(counts)

    return in_parallel(measured, range(len(blocks)))


def _positives(tile, blocks, block, gallery, other):
    """Gives the exact similarities of each query's positives in a tile, (side, any).

    Rows with fewer of them than others are filled with the lowest of `extremes`.
    """
    starts, ends = gallery.spans(blocks.classes[block])
    first, last = gallery.cuts[other], gallery.cuts[other + 1]
    starts, ends = np.clip([starts, ends], first, last) - first
    if tile.is_many((ends - starts).sum()):
        tile.make_exact()
    lowest, _ = extremes(tile.values.dtype)
    places = np.arange(max(1, (ends - starts).max()))
    similarities = np.empty((len(starts), len(places)), tile.values.dtype)
    for part in _pieces(len(starts), len(places)):
        columns = starts[part, np.newaxis] + places
        present = columns < ends[part, np.newaxis]
        columns = np.minimum(columns, gallery.side - 1)
        found = np.take_along_axis(tile.values[part], columns, axis=1)
        found[~present] = lowest
        at = np.nonzero(found != lowest)
        found[at] = tile.exact_at(at[0] + part.start, columns[at])
        similarities[part] = found
    return similarities


def _pieces(rows, width):
    """Cuts rows of so many values into slices of `_PIECE` values, or of one row."""
    step = max(1, _PIECE // width)
    return [slice(start, start + step) for start in range(0, rows, step)]


def in_parallel(work: Callable[[int], object], items: Iterable[int]) -> list:
    """Calls `work` with each item, on all usable cores, and gives results in order.

    One worker a core, the matrix library held to one thread, is faster than one worker
    whose matrix products share the cores: what is done between the products is shared
    too.
    """
    items = list(items)
    if len(items) < 2:
        return list(map(work, items))
    workers = min(len(items), usable_processors())
    with (
        threadpoolctl.threadpool_limits(1),
        # OpenMP, which faiss computes with, has a limit of its own for each thread.
        ThreadPoolExecutor(
            workers, initializer=threadpoolctl.threadpool_limits, initargs=(1,)
        ) as executor,
    ):
        return list(executor.map(work, items))


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

    def __init__(self, queries: int, all_positives: bool, enough: int | None = None):
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
        for part in _pieces(queries, sum(some.shape[1] for some in added)):
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
            for part in _pieces(len(reaching), tile.values.shape[1]):
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
        for part in _pieces(len(queries), self._positives.shape[1]):
            rows = queries[part]
            ranks = np.cumsum(self._gaps[rows, :-1], axis=1)
            ranks += np.arange(1, ranks.shape[1] + 1)
            within = np.count_nonzero(
                ranks <= self._num_positives[rows, np.newaxis], axis=1
            )
            last = self._positives[rows, within - 1]
            _, highest = extremes(last.dtype)
            self._cutoffs[rows] = np.where(within > 0, last, highest)


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
