"""The ranks of the images of each query's class."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import threadpoolctl

from keras_dml._similarity import Tile
from keras_dml._similarity import extremes
from keras_dml.evaluation._ranking.blocks import ClassBlocks
from keras_dml.evaluation._ranking.blocks import SameItems
from keras_dml.evaluation._ranking.blocks import block_side

# Larger ones are no faster, and two cores shall do with 100 MB.
SIDE = 1408
CODE_SIDE = 1024
_HELD_BYTES = 8 * 2**20
_HELD_TILES = 2
# Images of queries' classes whose places are counted at the same time.
_MOST_PLACES = 2**22


def rank_counts(
    queries: np.ndarray,
    query_classes: np.ndarray,
    gallery: np.ndarray | None,
    gallery_classes: np.ndarray,
    measure: Callable[[BlockCounts], np.ndarray],
    every: bool = False,
    same: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Measures each query by how many images come before those of its class.

    Nothing is sorted, and no list of neighbors is made. Both sides are put in the
    order of their classes, so that the images of a query's class lie in a few blocks of
    the gallery. Their similarities are found first; then those of all other images are
    counted that are nearer. Where the queries search one another, similarity is
    symmetric, and each tile of it serves two blocks of queries.

    Similarities that are compared with each other come from the same arithmetic: where
    two are so near that the order in which a product was summed might decide, both are
    `exact_cosines`, which tie where rows are equal. Memory beside the inputs: for each
    core two to five tiles of `4 * SIDE²` bytes and two blocks of rows, `_HELD_BYTES`
    for blocks that are kept, and if `every` is true some 60 bytes for each of
    `_MOST_PLACES` in all, or of 64 queries' images of their classes.

    Args:
        queries: (n, dim) float or (n, bytes) uint8, checked by `checked_pair`.
        query_classes: (n,) int64 from 0.
        gallery: (m, dim) or (m, bytes), or None: the queries search one another, each
            left out itself by its row.
        gallery_classes: (m,) int64; without a gallery the same as `query_classes`.
        measure: gives (figures, queries) of a block of queries that has been counted.
        every: whether `measure` looks at `BlockCounts.places`.
        same: rows of queries and of gallery, in pairs, that are not compared.

    Returns:
        (figures, n), as `measure` gives them.
    """
    side = CODE_SIDE if queries.dtype == np.uint8 else SIDE
    sizes, gallery_sizes = np.bincount(query_classes), np.bincount(gallery_classes)
    most = gallery_sizes.max() if every else 0
    if gallery is None and most * len(queries) <= _MOST_PLACES:
        side = block_side(sizes, side)
        blocks = ClassBlocks(queries, query_classes, side, _HELD_BYTES)
        measured = _among_themselves(blocks, measure, every)
    else:
        if gallery is None:
            gallery = queries
            same = np.arange(len(queries)), np.arange(len(queries))
        gallery_side = block_side(gallery_sizes, side)
        gallery = ClassBlocks(gallery, gallery_classes, gallery_side, _HELD_BYTES)
        workers = os.cpu_count() or 1
        side = block_side(sizes, side, workers)
        # A core counts the places of a block of queries at a time.
        while side > 64 and most * side * workers > _MOST_PLACES:
            side = -(-side // 128) * 64
        blocks = ClassBlocks(queries, query_classes, side)
        same = SameItems(blocks, gallery, *(same or np.empty((2, 0), np.int64)))
        measured = _in_gallery(blocks, gallery, same, measure, every)
    return np.array(
        [blocks.in_given_order(figure) for figure in np.stack(measured, axis=1)]
    )


def _among_themselves(blocks, measure, every):
    every_row = np.arange(len(blocks.order))
    same = SameItems(blocks, blocks, every_row, every_row)
    counts = [BlockCounts(blocks.side, every) for _ in range(len(blocks))]
    counted = np.zeros(len(blocks), bool)

    def tile_of(first, second):
        tile = Tile(blocks.rows(first), blocks.rows(second), blocks.are_codes)
        _hide_filling(tile.values, blocks, first, blocks, second)
        return tile

    def take_own(block):
        sharing = blocks.sharing(blocks.classes[block])
        for other in sharing:
            tile = tile_of(block, other)
            same.hide(tile.values, block, other)
            counts[block].take_own(_own(tile, blocks, block, blocks, other))
        counts[block].own_taken()
        if len(sharing) == 1:
            # All of its classes lie in this one tile, so it need not be made again.
            _hide_own(tile.values, blocks, block, blocks, block)
            counts[block].count_others(tile)
            counted[block] = True

    def count_others(first):
        sharing = blocks.sharing(blocks.classes[first])
        for second in range(first + counted[first], len(blocks)):
            tile = tile_of(first, second)
            if second in sharing:
                _hide_own(tile.values, blocks, first, blocks, second)
            counts[first].count_others(tile)
            if first != second:
                counts[second].count_others(tile.T)

    in_parallel(take_own, range(len(blocks)))
    in_parallel(count_others, range(len(blocks)))
    return list(map(measure, counts))


def _in_gallery(blocks, gallery, same, measure, every):
    def measured(block):
        counts = BlockCounts(blocks.side, every)
        rows = blocks.rows(block)
        sharing = gallery.sharing(blocks.classes[block])
        held = {}

        def tile_of(other):
            tile = Tile(rows, gallery.rows(other), blocks.are_codes)
            _hide_filling(tile.values, blocks, block, gallery, other)
            same.hide(tile.values, block, other)
            return tile

        for other in sharing:
            tile = tile_of(other)
            counts.take_own(_own(tile, blocks, block, gallery, other))
            if len(held) < _HELD_TILES:
                held[other] = tile
        counts.own_taken()
        for other in range(len(gallery)):
            tile = held.pop(other) if other in held else tile_of(other)
            if other in sharing:
                _hide_own(tile.values, blocks, block, gallery, other)
            counts.count_others(tile)
        return measure(counts)

    return in_parallel(measured, range(len(blocks)))


def _own(tile, blocks, block, gallery, other):
    """The exact similarities to images of each query's class, (side, any)."""
    starts, ends = gallery.spans(blocks.classes[block])
    first, last = gallery.cuts[other], gallery.cuts[other + 1]
    starts, ends = np.clip([starts, ends], first, last) - first
    columns = starts[:, np.newaxis] + np.arange(max(1, (ends - starts).max()))
    present = columns < ends[:, np.newaxis]
    columns = np.minimum(columns, gallery.side - 1)
    if tile.is_many(np.count_nonzero(present)):
        tile.make_exact()
    own = np.take_along_axis(tile.values, columns, axis=1)
    lowest, _ = extremes(own.dtype)
    own[~present] = lowest
    rows, places = np.nonzero(own != lowest)
    own[rows, places] = tile.exact_at(rows, columns[rows, places])
    return own


def _hide_own(tile, blocks, block, gallery, other):
    own = blocks.classes[block][:, np.newaxis] == gallery.classes[other]
    tile[own], _ = extremes(tile.dtype)


def _hide_filling(tile, blocks, block, gallery, other):
    lowest, _ = extremes(tile.dtype)
    tile[blocks.size(block) :] = lowest
    tile[:, gallery.size(other) :] = lowest


def in_parallel(work: Callable[[int], object], items: Iterable[int]) -> list:
    """Calls `work` with each item, on all cores, and gives what it returned, in order.

    One worker a core, the matrix library held to one thread, is faster than one worker
    whose matrix products share the cores: what is done between the products is shared
    too.
    """
    items = list(items)
    workers = min(len(items), os.cpu_count() or 1)
    if workers < 2:
        return list(map(work, items))
    with (
        threadpoolctl.threadpool_limits(1),
        ThreadPoolExecutor(workers) as executor,
    ):
        return list(executor.map(work, items))


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
