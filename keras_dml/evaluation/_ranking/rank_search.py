"""Finds the cosine of a certain rank among more than can be kept."""

from __future__ import annotations

import threading

import numpy as np

from keras_dml._similarity import ordered_floats
from keras_dml._similarity import ordered_integers

# Cosines, or counts of cosines, that a search keeps.
_CELLS = 2**20
# How many standard deviations the sample that it starts from may be wrong.
_DEVIATIONS = 6
_EVERY_NUMBER = tuple(
    int(ordered_integers(np.array([limit], np.float32))[0])
    for limit in (np.finfo(np.float32).min, np.finfo(np.float32).max)
)


class RankSearch:
    """Finds the cosine that has a certain rank, among those in a range.

    Where few are expected in the range they are kept. Otherwise they are counted:
    float32 numbers of one sign are in the order of their bits, so the range is one of
    integers, and it is cut into at most `_CELLS` cells, most often of one number each.

    Args:
        rank: of the cosine searched for, 1 being the highest.
        low: the least number of the range, as `ordered_integers` gives it.
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
            low = int(ordered_integers(sample[-not_below]))
        if above:
            high = int(ordered_integers(sample[-above]))
        expected = (not_below - above) / max(1, len(sample)) * total
        return cls(rank, low, max(low, high), expected)

    def add(self, values: np.ndarray) -> None:
        """Adds cosines, which rise. Several threads may add at once."""
        edges = ordered_floats(np.array([self._low, self._high]))
        start = np.searchsorted(values, edges[0], side="left")
        end = np.searchsorted(values, edges[1], side="right")
        within = values[start:end].copy()
        with self._lock:
            self._is_counted = True
            self._above += len(values) - end
            if self._are_kept:
                self._kept.append(within)
            else:
                cells = (ordered_integers(within) - self._low) // self._width
                np.add.at(self._cells, cells, 1)

    @property
    def found(self) -> np.float32 | None:
        """The cosine, once all have been added, or None: search where `narrowed`."""
        low, high = self._range()
        return ordered_floats(np.array([low]))[0] if low == high else None

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
        value = int(ordered_integers(values[-place]))
        return value, value
