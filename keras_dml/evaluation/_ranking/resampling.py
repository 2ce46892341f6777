"""Thresholds of classes drawn anew: the bootstrap over classes.

Images of a class are alike, and so are their pairs with another class, so pairs cannot
be drawn one by one as if each told something new. Classes can: a resample draws as many
as there are, with replacement, and takes all images of each. A class drawn twice counts
twice with every other, and its two copies are one class. So a negative of the classes a
and b counts w(a) · w(b) times, if class c was drawn w(c) times, and a resample is a
weighting of the pairs that have been counted: none is compared again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_dml.evaluation._ranking.counting import in_parallel
from keras_dml.evaluation._ranking.pair_counts import Tail
from keras_dml.evaluation._ranking.pair_counts import allowed_accepts
from keras_dml.evaluation._ranking.pairs import Pairs

# Classes drawn at a time, for one resample or several, and pairs weighted at a time.
_DRAWN = 2**18
_WEIGHTED = 2**19


def resampled_cutoffs(
    pairs: Pairs,
    tails: Sequence[Tail],
    rates: Sequence[float],
    resamples: int,
    seed: int,
) -> list[np.ndarray]:
    """Finds the negative right below the lowest threshold of each rate, in resamples.

    A resample may reach below what its tail keeps; the last value kept is its answer.

    Args:
        pairs: those that have been counted.
        tails: of each rate.
        rates: the false accept rates.
        resamples: how many times classes are drawn.
        seed: of the drawing.

    Returns:
        For each rate the similarities of that negative, one a resample; those without
        any negatives, as a resample of one class is, are left out.
    """
    classes = len(pairs.query_sizes)
    at_a_time = max(1, _DRAWN // classes)

    def resample(start):
        rng = np.random.default_rng([seed, 3, start])
        count = min(at_a_time, resamples - start)
        drawn = rng.integers(classes, size=(count, classes))
        drawn += classes * np.arange(count)[:, np.newaxis]
        times = np.bincount(drawn.ravel(), minlength=count * classes)
        times = times.reshape(count, classes)
        negatives = _negatives(pairs, times)
        times, negatives = times[negatives > 0], negatives[negatives > 0]
        return [
            _cutoffs(tail, rate, times.astype(np.float32), negatives.tolist())
            for tail, rate in zip(tails, rates, strict=True)
        ]

    found = in_parallel(resample, range(0, resamples, at_a_time))
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def _negatives(pairs, times):
    """How many negatives each resample has: int64 (resamples,)."""
    queries, gallery = times @ pairs.query_sizes, times @ pairs.gallery_sizes
    negatives = queries * gallery - times**2 @ (pairs.query_sizes * pairs.gallery_sizes)
    if pairs.are_symmetric:
        negatives //= 2
    first, second = pairs.uncompared
    return negatives - (times[:, first] * times[:, second]).sum(axis=1)


def _cutoffs(tail, rate, times, negatives):
    first, second = tail.classes
    allowed = [tail.share * allowed_accepts(rate, count) for count in negatives]
    cutoffs = np.empty(len(allowed), tail.values.dtype)
    step = max(1, _WEIGHTED // len(first))
    for start in range(0, len(allowed), step):
        part = slice(start, start + step)
        weights = np.take(times[part], first, axis=1)
        weights *= np.take(times[part], second, axis=1)
        accepts = np.cumsum(weights, axis=1, dtype=np.float64)
        for i, row in enumerate(accepts, start):
            at = np.searchsorted(row, allowed[i], side="right")
            cutoffs[i] = tail.values[min(at, len(row) - 1)]
    return cutoffs
