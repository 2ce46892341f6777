"""Compares all pairs of images, and counts those that reach each similarity.

A pair is *positive* if its two images are of one class, and *negative* otherwise.
60,502 images make 1.8 billion pairs, too many to keep or to sort. But few of them are
positive, and a figure depends on the negatives only through how many reach some
similarities. So:

1. The positives lie in a few tiles along the diagonal (`counting.py` has a drawing).
   They are collected, and their distinct similarities are the *levels*.
2. Every tile is made once, all its cosines exact, and its negatives are sorted. Then it
   takes one binary search a level, not one a negative, to count the negatives above
   each level and level with it. The ROC curve needs no more, as between two levels it
   runs straight.
3. The lowest threshold that keeps to a false accept rate lies right above one certain
   negative: the (a + 1)-th highest, if a false accepts are allowed. Where a is small,
   the highest negatives are kept (`Tail`). Where it is large, a random sample says
   between which two values that negative lies, and those between them are counted,
   value by value (`RankSearch`). If the sample was wrong, all tiles are made once more.
4. A tail also keeps the classes of its pairs, which `resampling.py` draws again.

Codes have few distinct similarities, and the levels are all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass

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
from keras_dml.evaluation._ranking.counting import CODE_SIDE
from keras_dml.evaluation._ranking.counting import SIDE
from keras_dml.evaluation._ranking.counting import in_parallel

_CACHE_BYTES = 8 * 2**20
MOST_LEVELS = 2**20
"""Up to so many positives all are levels; of more, a random part is."""
_DRAWN_LEVELS = 2**17
TAIL_PAIRS = 2**16
"""Pairs that a tail keeps, about: all that reach it, or a random part of them."""
# A resample may have its threshold lower than all images have it, so a tail reaches
# down to so many times the rate, or to so many pairs of the sample.
_TAIL_REACH = 4
_LEAST_IN_TAIL = 64
# Pairs in the sample, and how many standard deviations it may be wrong.
_SAMPLE = 2**18
_DEVIATIONS = 6
# Cosines, or counts of cosines, that a `RankSearch` keeps.
_CELLS = 2**20
# Values of the sample's rows gathered at a time.
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
        self._blocks = ClassBlocks(queries, query_classes, side, _CACHE_BYTES)
        self._searched = self._blocks
        self._same = None
        if gallery is not None:
            side = block_side(self.gallery_sizes, most)
            self._searched = ClassBlocks(gallery, gallery_classes, side, _CACHE_BYTES)
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


@dataclass
class Counted:
    """What the figures of all pairs are made of.

    Attributes:
        false_accepts: int64 (points,), rising from 0 to all negatives: how many have
            some similarity or more.
        true_accepts: int64 (points,), the positives that have the same one or more.
        cutoffs: for each rate, the similarity of the negative right below its lowest
            threshold: (rates,).
        accepted: for each rate, the positives above that.
        tails: for each rate, the negatives around its threshold.
        nearest: for each query of an unknown class, the similarity of the image most
            similar to it: (unknown queries,).
    """

    false_accepts: np.ndarray
    true_accepts: np.ndarray
    cutoffs: np.ndarray
    accepted: list[int]
    tails: list[Tail]
    nearest: np.ndarray


def count_pairs(pairs: Pairs, rates: Sequence[float], seed: int) -> Counted:
    """Counts what the figures of all pairs need, with each tile made about once.

    Memory beside the inputs: for each core some four tiles of `4 * SIDE²` bytes; 36
    bytes for each of `MOST_LEVELS` at most; and for each rate those of a `Tail` and,
    where more than `TAIL_PAIRS / _TAIL_REACH` false accepts are allowed, of a
    `RankSearch`.

    Args:
        pairs: at least one of them positive, and one negative.
        rates: false accept rates, checked by `checked_rates`.
        seed: of everything drawn. Of what is counted, only the tails of many pairs
            depend on it, and, of more than `MOST_LEVELS` positives, the levels.
    """
    collected = None
    if pairs.are_codes:
        levels = pairs.every_similarity()
    else:
        collected, levels = _levels(pairs, seed)
    negatives = LevelCounts(levels)
    nearest = _NearestOfUnknown(pairs)
    ranks = [allowed_accepts(rate, pairs.negatives) + 1 for rate in rates]
    sample = np.empty(0, pairs.dtype)
    if rates and pairs.negatives > TAIL_PAIRS:
        sample = pairs.sample(seed)
    tails = [Tail(pairs, rate, sample, seed) for rate in rates]
    searches = [
        RankSearch.around(rank, sample, pairs.negatives)
        for rank, tail in zip(ranks, tails, strict=True)
        if tail.share < 1 and not pairs.are_codes
    ]

    def count(values, first, second):
        nearest.add(values, first, second)
        _add_to_tails(tails, values, first, second)
        in_order = _sorted(values)
        negatives.add(in_order)
        for search in searches:
            search.add(in_order)

    pairs.each_tile(count)
    found = {search.rank: search for search in searches}
    cutoffs = np.empty(len(rates), pairs.dtype)
    for i, (rank, tail) in enumerate(zip(ranks, tails, strict=True)):
        tail.finish()
        if pairs.are_codes:
            cutoffs[i] = levels[np.flatnonzero(negatives.at_least() >= rank)[-1]]
        elif tail.share == 1 and len(tail.values) >= rank:
            cutoffs[i] = tail.values[rank - 1]
        else:
            search = found.get(rank) or RankSearch.everywhere(rank)
            cutoffs[i] = _searched(pairs, search)

    positives = LevelCounts(levels)
    accepted = np.zeros(len(rates), np.int64)
    lock = threading.Lock()

    def count_positives(values, *_):
        in_order = np.sort(values)
        positives.add(in_order)
        above = len(in_order) - np.searchsorted(in_order, cutoffs, side="right")
        with lock:
            np.add(accepted, above, out=accepted)

    if collected is None:
        pairs.each_tile(count_positives, positives=True)
    else:
        count_positives(collected)
    return Counted(
        negatives.points(pairs.negatives),
        positives.points(pairs.positives),
        cutoffs,
        accepted.tolist(),
        tails,
        nearest.values(),
    )


def allowed_accepts(rate: float, negatives: int) -> int:
    """Gives the most false accepts whose share of the negatives is not above a rate.

    Example:
        >>> allowed_accepts(0.29, 100), 0.29 * 100 < 29
        (29, True)
    """
    accepts = int(rate * negatives)
    while (accepts + 1) / negatives <= rate:
        accepts += 1
    while accepts / negatives > rate:
        accepts -= 1
    return accepts


def _levels(pairs, seed):
    """Collects all positives, rising, if they are not too many, and the levels."""
    share = 1.0
    if pairs.positives > MOST_LEVELS:
        share = _DRAWN_LEVELS / pairs.positives
    parts = []

    def collect(values, first, second):
        if share < 1:
            rng = np.random.default_rng([seed, 2, first, second])
            values = values[rng.random(len(values), np.float32) < share]
        parts.append(values)

    pairs.each_tile(collect, positives=True)
    collected = np.sort(np.concatenate(parts))
    is_first = np.append(True, collected[1:] != collected[:-1])
    return (collected if share == 1 else None), collected[is_first[: len(collected)]]


def _add_to_tails(tails, values, first, second):
    if not tails:
        return
    at = np.flatnonzero(values >= min(tail.floor for tail in tails))
    reached = values.reshape(-1)[at]
    for tail in tails:
        tail.add(at[reached >= tail.floor], values, first, second)


def _sorted(values):
    """Gives what is not hidden in a tile, rising. The tile is lost."""
    flat = values.reshape(-1)
    flat.sort()
    lowest, _ = extremes(values.dtype)
    return flat[np.searchsorted(flat, lowest, side="right") :]


def _searched(pairs, search):
    """Makes all tiles again until a search has found its value."""

    def add(values, *_):
        search.add(_sorted(values))

    while search.found is None:
        search = search.narrowed()
        pairs.each_tile(add)
    return search.found


class LevelCounts:
    """Counts the pairs above each of some similarities, and level with it.

    Args:
        levels: distinct similarities, rising.
    """

    def __init__(self, levels: np.ndarray):
        self._levels = levels
        self._above = np.zeros(len(levels), np.int64)
        self._level = np.zeros(len(levels), np.int64)
        self._lock = threading.Lock()

    def add(self, values: np.ndarray) -> None:
        """Counts similarities, which rise. Several threads may add at once."""
        if not len(values):
            return
        ends = np.searchsorted(values, self._levels, side="right")
        equal = np.flatnonzero(values[np.maximum(ends, 1) - 1] == self._levels)
        starts = np.searchsorted(values, self._levels[equal], side="left")
        level = ends[equal] - starts
        with self._lock:
            self._above += np.subtract(len(values), ends, out=ends)
            self._level[equal] += level

    def at_least(self) -> np.ndarray:
        """How many pairs have each level or more: int64 (levels,)."""
        return self._above + self._level

    def points(self, total: int) -> np.ndarray:
        """The pairs accepted by a falling threshold: none, above and at each, all."""
        counts = np.stack([self._above, self.at_least()], axis=1)
        return np.concatenate([[0], counts[::-1].ravel(), [total]])


class RankSearch:
    """Finds the cosine that has a certain rank, among those in a range.

    Where few are expected in the range they are kept. Otherwise they are counted:
    float32 numbers of one sign are in the order of their bits, so the range is one of
    integers, and it is cut into at most `_CELLS` cells, most often of one number each.

    Args:
        rank: of the cosine searched for, 1 being the highest.
        low: the least number of the range, as `_in_order` gives it.
        high: the greatest.
        expected: how many cosines there are in the range, about.
    """

    def __init__(self, rank: int, low: int, high: int, expected: float = np.inf):
        self.rank = rank
        self._low, self._high = low, high
        self._are_kept = expected <= _CELLS
        self._kept: list[np.ndarray] = []
        self._width = -(-(high + 1 - low) // _CELLS)
        cells = 0 if self._are_kept else -(-(high + 1 - low) // self._width)
        self._cells = np.zeros(cells, np.int64)
        self._above = 0
        self._is_counted = False
        self._lock = threading.Lock()

    @classmethod
    def everywhere(cls, rank: int) -> RankSearch:
        """Searches all numbers."""
        return cls(rank, *_EVERY_NUMBER)

    @classmethod
    def around(cls, rank: int, sample: np.ndarray, total: int) -> RankSearch:
        """Searches where a random sample of `total` cosines, rising, says it is."""
        place = rank / total * len(sample)
        error = _DEVIATIONS * (1 + place**0.5)
        above, not_below = max(0, int(place - error)), int(place + error) + 2
        low, high = _EVERY_NUMBER
        if not_below <= len(sample):
            low = int(_in_order(sample[-not_below]))
        if above:
            high = int(_in_order(sample[-above]))
        expected = (not_below - above) / max(1, len(sample)) * total
        return cls(rank, low, max(low, high), expected)

    def add(self, values: np.ndarray) -> None:
        """Adds cosines, which rise. Several threads may add at once."""
        edges = _from_order(np.array([self._low, self._high]))
        start = np.searchsorted(values, edges[0], side="left")
        end = np.searchsorted(values, edges[1], side="right")
        within = values[start:end].copy()
        with self._lock:
            self._is_counted = True
            self._above += len(values) - end
            if self._are_kept:
                self._kept.append(within)
            else:
                cells = (_in_order(within) - self._low) // self._width
                np.add.at(self._cells, cells, 1)

    @property
    def found(self) -> np.float32 | None:
        """The cosine, once all have been added, or None: search where `narrowed`."""
        low, high = self._range()
        return _from_order(np.array([low]))[0] if low == high else None

    def narrowed(self) -> RankSearch:
        """Searches the range that is left."""
        return RankSearch(self.rank, *self._range())

    def _range(self):
        if not self._is_counted:
            return self._low, self._high
        place = self.rank - self._above
        if place < 1:
            return self._high + 1, _EVERY_NUMBER[1]
        if not self._are_kept:
            counts = np.cumsum(self._cells[::-1])
            if place > counts[-1]:
                return _EVERY_NUMBER[0], self._low - 1
            cell = len(self._cells) - 1 - int(np.searchsorted(counts, place))
            low = self._low + cell * self._width
            return low, min(low + self._width - 1, self._high)
        values = np.sort(np.concatenate(self._kept))
        if place > len(values):
            return _EVERY_NUMBER[0], self._low - 1
        value = int(_in_order(values[-place]))
        return value, value


def _in_order(values):
    """Gives integers in the order of float32 numbers, next to one another if those are.

    Adding 0 turns −0 to 0.
    """
    bits = (values + np.float32(0)).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _from_order(integers):
    bits = np.where(integers < 0, -integers | 0x80000000, integers)
    return bits.astype(np.uint32).view(np.float32)


_EVERY_NUMBER = tuple(
    int(_in_order(np.array([limit], np.float32))[0])
    for limit in (np.finfo(np.float32).min, np.finfo(np.float32).max)
)


class Tail:
    """Keeps the most similar negatives, with their classes, or a random part of them.

    Args:
        pairs: those that are counted.
        rate: the false accept rate; the tail holds `_TAIL_REACH` times as many, all if
            there are no more than `TAIL_PAIRS`.
        sample: similarities of random negatives, rising, if there are more.
        seed: of the random part.

    Attributes:
        floor: the least similarity of the tail.
        share: the probability with which a pair of the tail is kept.
        values: (kept,) their similarities, falling, after `finish`.
        classes: their classes, (kept,) twice.
    """

    def __init__(self, pairs: Pairs, rate: float, sample: np.ndarray, seed: int):
        lowest, _ = extremes(pairs.dtype)
        self._pairs, self._seed = pairs, seed
        # Below all similarities, and above what is hidden.
        self.floor = lowest + 1 if pairs.dtype == np.int32 else np.finfo("float32").min
        reached = 1.0
        count = int(max(_TAIL_REACH * rate * len(sample), _LEAST_IN_TAIL))
        if count < len(sample):
            self.floor = sample[-count]
            tied = np.searchsorted(sample, self.floor, side="left")
            reached = 1 - tied / len(sample)
        self.share = min(1, TAIL_PAIRS / (reached * pairs.negatives))
        self._parts: list[tuple] = []

    def add(self, at: np.ndarray, values: np.ndarray, first: int, second: int) -> None:
        """Keeps what belongs to the tail of a tile. Several threads may add at once.

        Args:
            at: places in the flat tile that reach the floor.
            values: the tile.
            first: the number of its block of queries.
            second: that of its block of the gallery.
        """
        if self.share < 1:
            rng = np.random.default_rng([self._seed, 1, first, second])
            at = at[rng.random(len(at), np.float32) < self.share]
        rows, columns = np.divmod(at, values.shape[1])
        classes, others = self._pairs.classes_of(first, second)
        kept = values.reshape(-1)[at], classes[rows], others[columns]
        self._parts.append(kept)

    def finish(self) -> None:
        """Sorts what was kept, once all tiles have been added."""
        values, *classes = map(np.concatenate, zip(*self._parts, strict=True))
        # By class too, so that the order is not that of the threads.
        order = np.lexsort([*classes, values])[::-1]
        self.values = values[order]
        self.classes = tuple(side[order] for side in classes)
        self._parts = []


class _NearestOfUnknown:
    """Finds the image most similar to each query of an unknown class."""

    def __init__(self, pairs):
        self._unknown = pairs.unknown_in_blocks()
        self._any = self._unknown.any(axis=1)
        self._are_symmetric = pairs.are_symmetric
        lowest, _ = extremes(pairs.dtype)
        self._best = np.full(self._unknown.shape, lowest, pairs.dtype)
        self._lock = threading.Lock()

    def add(self, values, first, second):
        if self._any[first]:
            self._raise(first, values[self._unknown[first]].max(axis=1))
        if self._are_symmetric and self._any[second]:
            self._raise(second, values[:, self._unknown[second]].max(axis=0))

    def _raise(self, block, values):
        with self._lock:
            at = self._unknown[block]
            self._best[block, at] = np.maximum(self._best[block, at], values)

    def values(self):
        return self._best[self._unknown]
