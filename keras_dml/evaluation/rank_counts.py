"""The ranks of the images of each query's class."""

import os
from collections.abc import Callable

import numpy as np

from keras_dml.evaluation.block_counts import BlockCounts
from keras_dml.evaluation.block_cuts import block_side
from keras_dml.evaluation.class_blocks import ClassBlocks
from keras_dml.evaluation.comparable_rows import extremes
from keras_dml.evaluation.in_parallel import in_parallel
from keras_dml.evaluation.same_items import SameItems
from keras_dml.evaluation.tile import Tile

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

    Nothing is sorted, and no list of neighbours is made. Both sides are put in the
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
