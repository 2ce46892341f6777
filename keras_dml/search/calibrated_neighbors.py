"""Builds an index and tunes it until it agrees with exact search."""

import dataclasses
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_choice
from keras_dml._checks import checked_embeddings
from keras_dml._checks import checked_integer
from keras_dml._checks import checked_number
from keras_dml._checks import checked_pair
from keras_dml.evaluation import agreement
from keras_dml.search._least_effort import judged_agreement
from keras_dml.search._least_effort import least_effort
from keras_dml.search.annoy_neighbors import AnnoyNeighbors
from keras_dml.search.exact_neighbors import ExactNeighbors
from keras_dml.search.hnsw_neighbors import HNSWNeighbors
from keras_dml.search.neighbors import Calibration
from keras_dml.search.neighbors import Neighbors
from keras_dml.search.neighbors import checked_ids

_LARGEST_SEED = 2**31 - 1
_MOST_QUERIES = 1000
# One row in ten is held out; of few rows 400, but no more than one in four.
_HOLD_OUT_ONE_IN = 10
_HELD_OUT_OF_FEW = 400
_HOLD_OUT_AT_MOST_ONE_IN = 4
_TIMED_QUERIES = 200
_TIMED_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class _Ladder:
    """What to try: builds from quick to thorough, each from little effort to most.

    From the effort `full` on no more is found; it may be that every row is compared.
    """

    build: Callable[[int, int], Neighbors]
    builds: tuple[int, ...]
    effort: str
    least: Callable[[int, int], int]
    most: int
    full: Callable[[int, int], int]
    full_is_exact: bool


_LADDERS = {
    "annoy": _Ladder(
        build=lambda trees, seed: AnnoyNeighbors(trees, seed=seed),
        builds=(50, 100),
        effort="search_k",
        least=lambda k, trees: k * trees,  # Annoy's own default
        most=2**18,
        full=lambda count, trees: trees * count + 1,  # each tree has every row once
        full_is_exact=True,
    ),
    "hnsw": _Ladder(
        build=lambda M, seed: HNSWNeighbors(M, seed=seed),  # noqa: N803
        builds=(32, 64),
        effort="ef_search",
        least=lambda k, M: max(k, 16),  # noqa: N803
        most=2**12,
        full=lambda count, M: count,  # noqa: N803
        full_is_exact=False,  # parts of the graph may lie apart
    ),
}
KINDS = ("exact", *_LADDERS)
"""The kinds of index that `calibrated_neighbors` builds."""


def calibrated_neighbors(
    kind: str,
    embeddings: npt.ArrayLike,
    k: int,
    ids: npt.ArrayLike | None = None,
    queries: npt.ArrayLike | None = None,
    target: float = 0.99,
    seed: int = 0,
) -> Neighbors:
    """Builds an index with the least effort that agrees with exact search.

    Up to 1,000 queries, drawn by the seed, are searched exactly and through the index.
    Where none are given, they are a tenth of the rows, or 400 of fewer than 4,000 and a
    quarter of fewer than 1,600, which are left out of the index meanwhile: a graph of
    rows finds the neighbors of its own rows far more easily than those of new images.

    The effort, `search_k` or `ef_search`, is doubled until the mean `agreement` of the
    sample reaches the target beyond reasonable doubt, and lowered again to within a
    fifth of the least that does. Beyond doubt means: 2.3 standard errors below the mean
    still reach it, with one more query counted that agrees on nothing. That is 99 %
    confidence for one effort, so some 95 % for all that are tried, and it takes 333
    queries that agree on everything to show 99 %. If the most effort is not enough, the
    index is built again with twice the `trees` or `M`, once. The most is, for
    `search_k`, 262,144 nodes, or all nodes of all trees where that is less: then every
    row is compared, and the target is reached however few queries there are. For
    `ef_search` it is 4,096, or as many as there are rows.

    What is chosen depends on the data and the seed alone, not on the machine's speed.
    The index's `calibration` has the agreement reached, and what a query costs through
    it and exactly, which is often less: then `ExactNeighbors` is the better index.

    Args:
        kind: "annoy" or "hnsw", or "exact", which needs no calibration.
        embeddings: (n, dim) floats or (n, bytes) uint8 packed codes to index.
        k: how many neighbors will be asked for, at least 1. Of fewer rows the index is
            calibrated for as many as there are.
        ids: (n,) ids of the rows, as in `Neighbors.build`.
        queries: (m, dim) or (m, bytes), to draw the sample from. None: it is drawn
            from the rows, which costs another build.
        target: the agreement to reach, above 0 and up to 1.
        seed: 0 … 2^31 − 1, of the index and the sample.

    Returns:
        The index, with its `calibration`; None for "exact".

    Raises:
        ValueError: if an argument is out of its range or does not fit the others, or
            there is only one row and no queries.
        ImportError: if the library of the index is not installed.

    Warns:
        UserWarning: if the target was not reached, or the queries were too few to show
            it; the index is the best that was found.

    Example:
        >>> embeddings = np.random.default_rng(0).normal(size=(500, 16))
        >>> index = calibrated_neighbors("annoy", embeddings, k=8)
        >>> index.calibration.reached
        True
    """
    checked_choice(kind, "kind", KINDS)
    k = checked_integer(k, "k", 1)
    target = checked_number(target, "target", above=0, most=1)
    seed = checked_integer(seed, "seed", 0, _LARGEST_SEED)
    rows, given = checked_embeddings(embeddings, "embeddings"), None
    if queries is not None:
        given, _ = checked_pair(queries, rows)
    if ids is not None:
        ids = checked_ids(ids, len(rows))
    if kind == "exact":
        exact = ExactNeighbors()
        exact.build(rows, ids)
        return exact
    if given is None and len(rows) < 2:
        raise ValueError(
            "embeddings has one row, and so nothing to find for it. Pass queries, or "
            "more rows."
        )

    trial = _trial(rows, given, k, seed)
    index, found, reached = _best_index(kind, len(rows), trial, target, seed)
    calibration = Calibration(
        k=trial.k,
        target=target,
        agreement=found,
        reached=reached,
        queries=len(trial.queries),
        seed=seed,
        ms_per_query=trial.milliseconds(index),
        exact_ms_per_query=trial.milliseconds(trial.exact),
    )
    if given is None:
        index.build(rows, ids)
    elif ids is not None:
        index.ids = ids
    index.calibration = calibration
    if not reached:
        short = "too few to show" if found >= target else "short of"
        warnings.warn(
            f"The index of kind {kind!r} agrees with exact search on "
            f"{100 * found:.2f} % of the {trial.k} nearest of {len(trial.queries)} "
            f"queries, {short} the target of {100 * target:g} %: "
            f"{index.parameters} was the best found. Use another kind, or "
            "ExactNeighbors, which agrees on all.",
            UserWarning,
            stacklevel=2,
        )
    return index


def _trial(rows, queries, k, seed):
    """Draws a sample of queries, or of rows that are left out of the gallery."""
    drawn = np.random.default_rng(seed).permutation(
        len(rows) if queries is None else len(queries)
    )
    if queries is not None:
        return _Trial(rows, queries[drawn[:_MOST_QUERIES]], k)
    held_out = drawn[: _held_out(len(rows))]
    return _Trial(np.delete(rows, held_out, 0), rows[held_out], k)


def _held_out(rows):
    most = max(1, rows // _HOLD_OUT_AT_MOST_ONE_IN)
    usual = max(rows // _HOLD_OUT_ONE_IN, min(_HELD_OUT_OF_FEW, most))
    return min(_MOST_QUERIES, usual)


class _Trial:
    """A sample of queries with their exact neighbors in a gallery."""

    def __init__(self, gallery, queries, k):
        self.gallery = gallery
        self.queries = queries
        self.k = min(k, len(gallery))
        self.exact = ExactNeighbors()
        self.exact.build(gallery)
        self.nearest, _ = self.exact.search(queries, self.k)

    def agreement(self, index, target):
        """The mean agreement, and whether it reaches the target beyond doubt."""
        return judged_agreement(
            lambda part: self._agreement(index, part), len(self.queries), target
        )

    def mean_agreement(self, index):
        """The mean agreement of the whole sample."""
        return float(self._agreement(index, slice(None)).mean())

    def milliseconds(self, index):
        """Milliseconds a query through an index."""
        queries = self.queries[:_TIMED_QUERIES]
        times = []
        for _ in range(_TIMED_ROUNDS):
            start = time.perf_counter()
            index.search(queries, self.k)
            times.append(time.perf_counter() - start)
        return 1000 * statistics.median(times) / len(queries)

    def _agreement(self, index, part):
        found, _ = index.search(self.queries[part], self.k)
        return agreement(found, self.nearest[part], self.queries[part], self.gallery)


def _best_index(kind, count, trial, target, seed):
    """Builds indexes until one reaches the target.

    Returns:
        The best one, its mean agreement, and whether it reaches the target.
    """
    ladder = _LADDERS[kind]
    best = None
    for thoroughness in ladder.builds:
        index = ladder.build(thoroughness, seed)
        index.build(trial.gallery)
        full = ladder.full(count, thoroughness)
        most = max(trial.k, min(ladder.most, full))
        least = min(ladder.least(trial.k, thoroughness), most)

        def tried(effort, index=index):
            setattr(index, ladder.effort, effort)
            return trial.agreement(index, target)

        effort, found, reached = least_effort(tried, least, most)
        setattr(index, ladder.effort, effort)
        is_exact = ladder.full_is_exact and getattr(index, ladder.effort) >= full
        reached = reached or is_exact
        if best is None or found > best[1]:
            best = index, found, reached
        if reached:
            break
    index, found, reached = best
    if not reached:
        found = trial.mean_agreement(index)
    return index, found, reached
