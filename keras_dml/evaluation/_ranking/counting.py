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

`rank_counts` runs this on all cores that the process may use; `block_counts.py` has the
counts of one block. Bars are maxima and counts are sums, so a gallery in parts needs
steps 1 and 2 of each part alone: `best_positives` and `negatives_at`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import threadpoolctl

from keras_dml._similarity import Tile
from keras_dml._similarity import extremes
from keras_dml._similarity import nearness
from keras_dml._similarity import similarities_at
from keras_dml.evaluation._ranking.block_counts import BlockCounts
from keras_dml.evaluation._ranking.block_counts import pieces
from keras_dml.evaluation._ranking.blocks import ClassBlocks
from keras_dml.evaluation._ranking.blocks import SameItems
from keras_dml.evaluation._ranking.blocks import block_side
from keras_dml.evaluation._ranking.blocks import hide_padding
from keras_dml.evaluation._ranking.blocks import hide_positives
from keras_dml.evaluation._ranking.bounds import Bounds
from keras_dml.evaluation._ranking.bounds import find_bounds
from keras_dml.evaluation._ranking.processors import usable_processors

# Rows of a block at most. Larger ones are no faster, and two cores stay below 100 MB.
SIDE = 1408
CODE_SIDE = 1024
# Bytes of prepared rows, and tiles with positives, that are kept for step 2.
CACHE_BYTES = 8 * 2**20
_KEPT_TILES = 2
# Positives of queries that step 5 counts for at the same time.
_MOST_POSITIVES = 2**22


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
    most = np.bincount(gallery_classes).max() if all_positives else 0
    new_counts = functools.partial(
        BlockCounts, all_positives=all_positives, enough=enough
    )
    if gallery is None and most * len(queries) <= _MOST_POSITIVES:
        side = CODE_SIDE if queries.dtype == np.uint8 else SIDE
        side = block_side(np.bincount(query_classes), side)
        blocks = searched = ClassBlocks(queries, query_classes, side, CACHE_BYTES)
        every_row = np.arange(len(queries))
        same_items = SameItems(blocks, blocks, every_row, every_row)
    else:
        if gallery is None:
            gallery = queries
            same = np.arange(len(queries)), np.arange(len(queries))
        blocks, searched, same_items = _blocks(
            queries, query_classes, gallery, gallery_classes, same, most
        )
    bounds = find_bounds(blocks, searched, all_positives, enough)
    tiles = _Tiles(blocks, searched, same_items, bounds)
    counts = {block: new_counts(blocks.side) for block in range(len(blocks))}

    def measured(block):
        if searched is not blocks:
            tiles.set_bars(counts, block)
            tiles.count_negatives(counts, block)
        return measure(counts.pop(block))

    if searched is blocks:
        in_parallel(functools.partial(tiles.set_bars, counts), counts)
        in_parallel(functools.partial(tiles.count_negatives, counts), counts)
    return _in_original_order(blocks, in_parallel(measured, counts))


def best_positives(
    queries: np.ndarray,
    query_classes: np.ndarray,
    gallery: np.ndarray,
    gallery_classes: np.ndarray,
    same: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Gives each query's best positive in a part of a gallery, and how many are level.

    Args:
        queries: (n, dim) float or (n, bytes) uint8, checked by `checked_pair`.
        query_classes: (n,) int64 from 0.
        gallery: (m, dim) or (m, bytes).
        gallery_classes: (m,) int64.
        same: rows of queries and of gallery, in pairs, that are not compared.

    Returns:
        float32 (n,), cosines or minus Hamming distances, −∞ without a positive; and
        int64 (n,), 0 without one.
    """
    blocks, searched, same_items = _blocks(
        queries, query_classes, gallery, gallery_classes, same
    )
    tiles = _Tiles(blocks, searched, same_items)

    def found(block):
        counts = {block: BlockCounts(blocks.side)}
        tiles.add_positives(counts, block)
        best, tied = counts[block].best_positive, counts[block].positives_tied
        best = nearness(best, blocks.rows(block), blocks.are_codes)
        return np.where(tied > 0, best, -np.inf), tied

    best, tied = _in_original_order(blocks, in_parallel(found, range(len(blocks))))
    return best.astype(np.float32), tied.astype(np.int64)


def negatives_at(
    bars: np.ndarray,
    queries: np.ndarray,
    query_classes: np.ndarray,
    gallery: np.ndarray,
    gallery_classes: np.ndarray,
    same: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Counts each query's negatives above a bar in a part of a gallery, and level.

    Args:
        bars: (n,), as `best_positives` gives them. Where one is −∞ none are counted.
        queries: (n, dim) or (n, bytes), as for `best_positives`, as are the next four.
        query_classes: (n,).
        gallery: (m, dim) or (m, bytes).
        gallery_classes: (m,).
        same: rows in pairs.

    Returns:
        int64 (n,) twice.
    """
    blocks, searched, same_items = _blocks(
        queries, query_classes, gallery, gallery_classes, same
    )
    bounds = find_bounds(blocks, searched, False, None, bars)
    tiles = _Tiles(blocks, searched, same_items, bounds)

    def counted(block):
        near = np.full(blocks.side, -np.inf, np.float32)
        near[: blocks.size(block)] = bars[blocks.numbers(block)]
        has_bar = near > -np.inf
        near[~has_bar] = 0
        best = similarities_at(near, blocks.rows(block), blocks.are_codes)
        best[~has_bar], _ = extremes(best.dtype)
        counts = {block: BlockCounts(blocks.side)}
        counts[block].best_positive = best
        counts[block].set_bars()
        tiles.count_negatives(counts, block)
        return counts[block].negatives_above, counts[block].negatives_tied

    counts = in_parallel(counted, range(len(blocks)))
    above, tied = _in_original_order(blocks, counts)
    return above, tied


def _blocks(
    queries, query_classes, gallery, gallery_classes, same=None, most_positives=0
):
    """Blocks of queries and of the gallery that they search, and who is the same."""
    most = CODE_SIDE if queries.dtype == np.uint8 else SIDE
    side = block_side(np.bincount(gallery_classes), most)
    searched = ClassBlocks(gallery, gallery_classes, side, CACHE_BYTES)
    workers = usable_processors()
    side = block_side(np.bincount(query_classes), most, workers)
    # Each core counts for all positives of a block of queries.
    while side > 64 and most_positives * side * workers > _MOST_POSITIVES:
        side = -(-side // 128) * 64
    blocks = ClassBlocks(queries, query_classes, side)
    pairs = np.empty((2, 0), np.int64) if same is None else same
    return blocks, searched, SameItems(blocks, searched, *pairs)


def _in_original_order(blocks, figures):
    """Joins (figures, side) of each block to (figures, n)."""
    return np.array(
        [blocks.in_original_order(figure) for figure in np.stack(figures, axis=1)]
    )


class _Tiles:
    """The tiles of blocks of queries and of a gallery, counted for the blocks.

    Where both are the same blocks, those below the diagonal are not made. A tile is
    made once, and only where there are many with positives those once more.

    Args:
        queries: the blocks of queries.
        gallery: the blocks of the gallery.
        same: the pairs that are not compared.
        bounds: rule out most pairs, or None.
    """

    def __init__(
        self,
        queries: ClassBlocks,
        gallery: ClassBlocks,
        same: SameItems,
        bounds: Bounds | None = None,
    ):
        self._queries, self._gallery = queries, gallery
        self._same, self._bounds = same, bounds
        self._counted: set[tuple[int, int]] = set()

    def add_positives(
        self, counts: Mapping[int, BlockCounts], block: int
    ) -> dict[int, Tile]:
        """Adds the positives of a block to its counts, and gives their first tiles."""
        rows = self._queries.rows(block)
        kept: dict[int, Tile] = {}
        for other in self._with_positives(block):
            tile = self._tile(rows, block, other)
            counts[block].add_positives(
                _positives(tile, self._queries, block, self._gallery, other)
            )
            if len(kept) < _KEPT_TILES:
                kept[other] = tile
        return kept

    def set_bars(self, counts: Mapping[int, BlockCounts], block: int) -> None:
        """Sets the bars of a block, and counts the negatives in the tiles at hand."""
        kept = self.add_positives(counts, block)
        counts[block].set_bars()
        for other, tile in kept.items():
            hide_positives(tile.values, self._queries, block, self._gallery, other)
            counts[block].count_negatives(tile)
            self._counted.add((block, other))

    def count_negatives(self, counts: Mapping[int, BlockCounts], block: int) -> None:
        """Counts all negatives of a block, and those that others find in its tiles.

        The bars must be set before: the block's, and where queries search one another,
        those of all blocks.
        """
        rows = None
        coordinates = None if self._bounds is None else self._bounds.rows(block)
        are_same = self._queries is self._gallery
        with_positives = self._with_positives(block)
        for other in range(block if are_same else 0, len(self._gallery)):
            mine = None if (block, other) in self._counted else counts[block]
            theirs = None
            if are_same and other != block and (other, block) not in self._counted:
                theirs = counts[other]
            if mine is None and theirs is None:
                continue
            if other not in with_positives and self._count_pairs(
                coordinates, block, other, counts[block], theirs
            ):
                continue
            if rows is None:
                rows = self._queries.rows(block)
            tile = self._tile(rows, block, other)
            if other in with_positives:
                hide_positives(tile.values, self._queries, block, self._gallery, other)
            if mine is not None:
                mine.count_negatives(tile)
            if theirs is not None:
                theirs.count_negatives(tile.T)

    def _count_pairs(self, coordinates, block, other, mine, theirs):
        """Counts the pairs of a tile that bounds leave, if they leave few."""
        if coordinates is None:
            return False
        lowest = None if theirs is None else theirs.lowest
        pairs = self._bounds.pairs(
            coordinates, block, other, mine.lowest, lowest, self._same.hide
        )
        if pairs is None:
            return False
        rows, columns, cosines, exact = pairs
        mine.count_pairs(rows, cosines, self._bounds.margin, exact)
        if theirs is not None:
            theirs.count_pairs(columns, cosines, self._bounds.margin, exact)
        return True

    def _with_positives(self, block):
        return self._gallery.blocks_with(self._queries.classes[block])

    def _tile(self, rows, block, other):
        tile = Tile(rows, self._gallery.rows(other), self._queries.are_codes)
        hide_padding(tile.values, self._queries, block, self._gallery, other)
        self._same.hide(tile.values, block, other)
        return tile


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
    for part in pieces(len(starts), len(places)):
        columns = starts[part, np.newaxis] + places
        present = columns < ends[part, np.newaxis]
        columns = np.minimum(columns, gallery.side - 1)
        found = np.take_along_axis(tile.values[part], columns, axis=1)
        found[~present] = lowest
        at = np.nonzero(found != lowest)
        found[at] = tile.exact_at(at[0] + part.start, columns[at])
        similarities[part] = found
    return similarities


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
