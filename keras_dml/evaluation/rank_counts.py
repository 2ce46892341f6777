"""The rank of each query's nearest image of its own class."""

import os
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import threadpoolctl

from keras_dml.evaluation.class_blocks import ClassBlocks

SIDE = 2048
_HELD_TILES = 2


def rank_counts(
    queries: np.ndarray,
    query_classes: np.ndarray,
    gallery: np.ndarray | None,
    gallery_classes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts the images before and beside each query's nearest image of its class.

    Nothing is sorted, and no list of neighbours is made. Both sides are put in the
    order of their classes, so that the images of a query's class lie in a few blocks of
    the gallery. Products with those give the score of its nearest one; then the scores
    above that one are counted in the products with all blocks. Where the queries search
    one another, each product serves two blocks of queries.

    All products have one shape, and scores that are compared with each other come from
    the same arithmetic. Each core works on products of its own, with the matrix library
    held to one thread. Memory beside the inputs: a core takes two or three tiles of
    `4 * SIDE²` bytes and two blocks of `4 * SIDE * dim`.

    Args:
        queries: (n, dim) float or (n, bytes) uint8, checked by `checked_pair`.
        query_classes: (n,) int64 from 0.
        gallery: (m, dim) or (m, bytes), or None: the queries search one another, each
            left out itself by its row.
        gallery_classes: (m,) int64; without a gallery the same as `query_classes`.

    Returns:
        int64 (n,) three times: images of other classes nearer than that one, images
        of other classes tied with it, and images of the query's class tied with it,
        which counts that one and is 0 where there is none.
    """
    largest = max(len(query_classes), len(gallery_classes))
    side = min(SIDE, -(-largest // 64) * 64)
    blocks = ClassBlocks(queries, query_classes, side)
    best = _Best(blocks)
    if gallery is None:
        above, tied = _among_themselves(blocks, best)
    else:
        above, tied = _in_gallery(
            blocks, ClassBlocks(gallery, gallery_classes, side), best
        )
    return tuple(blocks.in_given_order(counts) for counts in (above, tied, best.ties))


class _Best:
    """The score of each query's nearest image of its class, and how many have it."""

    def __init__(self, blocks):
        self.scores = np.full(blocks.classes.shape, -np.inf, np.float32)
        self.ties = np.zeros(blocks.classes.shape, np.int64)

    def update(self, block, scores, own):
        """Takes scores (side, columns) into account where `own` is true."""
        scores = np.where(own, scores, -np.inf)
        best = np.maximum(self.scores[block], scores.max(axis=1))
        ties = np.count_nonzero(scores == best[:, np.newaxis], axis=1)
        self.ties[block] = ties + np.where(
            best == self.scores[block], self.ties[block], 0
        )
        self.ties[block, best == -np.inf] = 0
        self.scores[block] = best

    def thresholds(self, block):
        """The scores to reach: infinity for a query without an image of its class."""
        scores = self.scores[block]
        return np.where(scores == -np.inf, np.inf, scores)


class _Counts:
    """Scores above and equal to each query's best, as one thread counted them."""

    def __init__(self, blocks):
        self.above, self.tied = np.zeros((2, *blocks.classes.shape), np.int64)

    def add(self, block, scores, thresholds):
        """Counts in scores (side, columns), of which most rows reach nothing."""
        reaching = np.flatnonzero(scores.max(axis=1) >= thresholds)
        scores = scores[reaching]
        thresholds = thresholds[reaching, np.newaxis]
        self.above[block, reaching] += np.count_nonzero(scores > thresholds, axis=1)
        self.tied[block, reaching] += np.count_nonzero(scores == thresholds, axis=1)


def _among_themselves(blocks, best):
    counted = np.zeros(len(blocks), bool)

    def find_best(counts, block):
        sharing = blocks.sharing(blocks, block)
        for other in sharing:
            # The very product that others are counted in, seen from either side.
            first, second = sorted((block, other))
            tile = _product(blocks, first, blocks, second)
            own = blocks.same_class(first, blocks, second)
            if first == second:
                np.fill_diagonal(own, False)
            if block == first:
                best.update(block, tile, own)
            else:
                best.update(block, tile.T, own.T)
        if len(sharing) == 1:
            # All of its classes lie in this one tile, so it need not be made again.
            tile[blocks.same_class(block, blocks, block)] = -np.inf
            counts.add(block, tile, best.thresholds(block))
            counted[block] = True

    def count_others(counts, first):
        vectors = blocks.vectors(first)
        for second in range(first, len(blocks)):
            if first == second and counted[first]:
                continue
            tile = vectors @ blocks.vectors(second).T
            _hide_filling(tile, blocks, first, blocks, second)
            if second in blocks.sharing(blocks, first):
                tile[blocks.same_class(first, blocks, second)] = -np.inf
            counts.add(first, tile, best.thresholds(first))
            if first != second:
                counts.add(second, tile.T, best.thresholds(second))

    return _in_parallel(blocks, find_best, count_others)


def _in_gallery(blocks, gallery, best):
    def count_others(counts, block):
        sharing = blocks.sharing(gallery, block)
        held = {}
        for other in sharing:
            tile = _product(blocks, block, gallery, other)
            best.update(block, tile, blocks.same_class(block, gallery, other))
            if len(held) < _HELD_TILES:
                held[other] = tile
        vectors = blocks.vectors(block)
        for other in range(len(gallery)):
            tile = held.pop(other, None)
            if tile is None:
                tile = vectors @ gallery.vectors(other).T
                _hide_filling(tile, blocks, block, gallery, other)
            if other in sharing:
                tile[blocks.same_class(block, gallery, other)] = -np.inf
            counts.add(block, tile, best.thresholds(block))

    return _in_parallel(blocks, count_others)


def _product(blocks, block, gallery, other):
    tile = blocks.vectors(block) @ gallery.vectors(other).T
    _hide_filling(tile, blocks, block, gallery, other)
    return tile


def _hide_filling(tile, blocks, block, gallery, other):
    tile[blocks.size(block) :] = -np.inf
    tile[:, gallery.size(other) :] = -np.inf


def _in_parallel(blocks, *phases: Callable[[_Counts, int], None]):
    """Runs each phase over all blocks; gives the summed counts (above, tied)."""
    workers = min(len(blocks), os.cpu_count())
    all_counts = [_Counts(blocks) for _ in range(workers)]
    free = queue.SimpleQueue()
    for counts in all_counts:
        free.put(counts)

    def run(phase, block):
        counts = free.get()
        phase(counts, block)
        free.put(counts)

    if workers == 1:
        for phase in phases:
            for block in range(len(blocks)):
                phase(all_counts[0], block)
    else:
        with (
            threadpoolctl.threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(workers) as executor,
        ):
            for phase in phases:
                list(executor.map(run, [phase] * len(blocks), range(len(blocks))))
    return (
        sum(counts.above for counts in all_counts),
        sum(counts.tied for counts in all_counts),
    )
