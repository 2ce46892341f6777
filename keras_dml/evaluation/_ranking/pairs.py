"""All pairs of images, in tiles of their similarities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_dml._similarity import comparable_rows
from keras_dml._similarity import exact_similarities
from keras_dml._similarity import extremes
from keras_dml._similarity import paired_similarities
from keras_dml.evaluation._ranking.blocks import ClassBlocks
from keras_dml.evaluation._ranking.blocks import SameItems
from keras_dml.evaluation._ranking.blocks import block_side
from keras_dml.evaluation._ranking.blocks import hide_padding
from keras_dml.evaluation._ranking.blocks import hide_positives
from keras_dml.evaluation._ranking.counting import CACHE_BYTES
from keras_dml.evaluation._ranking.counting import CODE_SIDE
from keras_dml.evaluation._ranking.counting import SIDE
from keras_dml.evaluation._ranking.counting import in_parallel

# Pairs that `Pairs.sample` draws, and values of their rows gathered at a time.
_SAMPLE = 2**18
_GATHERED_VALUES = 2**20


class Pairs:
    """All pairs of a query and a gallery image, or each two queries once, in tiles.

    Similarities are as `keras_dml._similarity.similarities` gives them.

    Args:
        queries: (n, dim) float or (n, bytes) uint8, checked by `checked_pair`.
        query_classes: (n,) int64 from 0.
        gallery: (m, dim) or (m, bytes), or None: the queries are compared with one
            another, each pair once.
        gallery_classes: (m,) int64; if gallery is None, the same as `query_classes`.
        same: rows of queries and of gallery, in pairs, that are not compared.

    Attributes:
        are_codes: whether they are packed codes.
        are_symmetric: whether the queries are compared with one another.
        dtype: of the similarities.
        positives: how many pairs are of one class.
        negatives: how many are of two.
        query_sizes: (classes,) how many queries each class has.
        gallery_sizes: (classes,) how many gallery images; without one, `query_sizes`.
        uncompared: the classes of the queries and of the gallery images of `same` where
            those differ, (pairs,) each.
        unknown: bool (n,) queries of a class of which they are compared with no image.
    """

    def __init__(
        self,
        queries: np.ndarray,
        query_classes: np.ndarray,
        gallery: np.ndarray | None,
        gallery_classes: np.ndarray,
        same: tuple[np.ndarray, np.ndarray] | None = None,
    ):
        self.are_codes = queries.dtype == np.uint8
        self.are_symmetric = gallery is None
        self._rows = queries, queries if gallery is None else gallery
        self._classes = query_classes, gallery_classes
        self._count(*(np.empty((2, 0), np.int64) if same is None else same))
        most = CODE_SIDE if self.are_codes else SIDE
        side = block_side(self.query_sizes, most)
        self._blocks = ClassBlocks(queries, query_classes, side, CACHE_BYTES)
        self._searched = self._blocks
        self._same = None
        if gallery is not None:
            side = block_side(self.gallery_sizes, most)
            self._searched = ClassBlocks(gallery, gallery_classes, side, CACHE_BYTES)
        if same is not None:
            self._same = SameItems(self._blocks, self._searched, *same)
        self._width = self._blocks.rows(0).shape[1]
        in_bytes = self._blocks.rows(0).dtype == np.uint8
        self.dtype = np.dtype(np.int32 if in_bytes else np.float32)

    def _count(self, same_queries, same_gallery):
        queries, gallery = self._classes
        classes = 1 + max(queries.max(), gallery.max())
        self.query_sizes = np.bincount(queries, minlength=classes)
        self.gallery_sizes = np.bincount(gallery, minlength=classes)
        first, second = queries[same_queries], gallery[same_gallery]
        self.uncompared = first[first != second], second[first != second]
        own = self.gallery_sizes[queries] - self.are_symmetric
        own -= np.bincount(same_queries[first == second], minlength=len(queries))
        self.unknown = own == 0
        self.positives = int(own.sum())
        pairs = len(queries) * (len(gallery) - self.are_symmetric) - len(same_queries)
        if self.are_symmetric:
            self.positives //= 2
            pairs //= 2
        self.negatives = pairs - self.positives

    def every_similarity(self) -> np.ndarray:
        """Gives, rising, every similarity that two codes can have."""
        if self.dtype == np.int32:
            return np.arange(8 * self._width + 1, dtype=np.int32)
        return np.arange(-self._width, self._width + 1, 2, dtype=np.float32)

    def next_above(self, similarities: np.ndarray) -> np.ndarray:
        """Gives the least similarity that two images can have above each given one."""
        if not self.are_codes:
            return np.nextafter(similarities, np.float32(np.inf))
        return similarities + (1 if self.dtype == np.int32 else 2)

    def as_shown(self, similarities: np.ndarray) -> list:
        """Gives similarities as a user knows them: cosines, or Hamming distances."""
        if not self.are_codes:
            return similarities.tolist()
        if self.dtype == np.int32:
            return (8 * self._width - similarities).tolist()
        return ((self._width - similarities) / 2).astype(np.int64).tolist()

    def classes_of(self, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        """The classes of the rows and of the columns of a tile, -1 for padding."""
        return self._blocks.classes[first], self._searched.classes[second]

    def unknown_in_blocks(self) -> np.ndarray:
        """Which rows of each block of queries are `unknown`: bool (blocks, side)."""
        flags = np.zeros(self._blocks.classes.shape, bool)
        flags[self._blocks.classes >= 0] = self.unknown[self._blocks.order]
        return flags

    def each_tile(
        self,
        use: Callable[[np.ndarray, int, int], None],
        positives: bool = False,
    ) -> None:
        """Calls `use` with tiles and the numbers of their two blocks, on all cores.

        Args:
            use: takes (rows, columns) similarities, of negatives; what is none of them
                is hidden, which means that it reads as the lowest of `extremes`.
            positives: `use` takes the similarities of positives instead, flat and in no
                order, of those tiles alone that hold some.
        """

        def use_row_of_tiles(first):
            rows = self._blocks.rows(first)
            own = self._searched.blocks_with(self._blocks.classes[first])
            start = first if self.are_symmetric else 0
            for second in range(start, len(self._searched)):
                if positives and second not in own:
                    continue
                values = self._tile(rows, first, second)
                if positives:
                    values = self._positives(values, first, second)
                elif second in own:
                    hide_positives(values, self._blocks, first, self._searched, second)
                use(values, first, second)

        in_parallel(use_row_of_tiles, range(len(self._blocks)))

    def _tile(self, rows, first, second):
        others = self._searched.rows(second)
        values = exact_similarities(rows, others, self.are_codes)
        hide_padding(values, self._blocks, first, self._searched, second)
        if self._same is not None:
            self._same.hide(values, first, second)
        if self.are_symmetric and first == second:
            values[np.tri(len(values), dtype=bool)], _ = extremes(values.dtype)
        return values

    def _positives(self, values, first, second):
        classes, others = self.classes_of(first, second)
        lowest, _ = extremes(values.dtype)
        return values[(classes[:, np.newaxis] == others) & (values != lowest)]

    def sample(self, seed: int) -> np.ndarray:
        """Gives the similarities, rising, of some `_SAMPLE` random negatives."""
        rng = np.random.default_rng([seed, 0])
        at = [rng.integers(len(side), size=_SAMPLE) for side in self._rows]
        first, second = (
            side[drawn] for side, drawn in zip(self._classes, at, strict=True)
        )
        at = [drawn[first != second] for drawn in at]
        step = max(1, _GATHERED_VALUES // self._rows[0].shape[1])

        def compare(start):
            part = slice(start, start + step)
            queries, gallery = (
                comparable_rows(side[drawn[part]], 1)
                for side, drawn in zip(self._rows, at, strict=True)
            )
            return paired_similarities(queries, gallery)

        parts = in_parallel(compare, range(0, len(at[0]), step))
        return np.sort(np.concatenate([np.empty(0, self.dtype), *parts]))
