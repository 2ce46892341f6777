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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_dml._similarity import extremes
from keras_dml.evaluation._ranking.pairs import Pairs
from keras_dml.evaluation._ranking.rank_search import RankSearch

MOST_LEVELS = 2**20
"""Up to so many positives all are levels; of more, a random part is."""
_DRAWN_LEVELS = 2**17
TAIL_PAIRS = 2**16
"""Pairs that a tail keeps, about: all that reach it, or a random part of them."""
# A resample may have its threshold lower than all images have it, so a tail reaches
# down to so many times the rate, or to so many pairs of the sample.
_TAIL_REACH = 4
_LEAST_IN_TAIL = 64


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
