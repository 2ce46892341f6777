"""An index tuned until it finds what exact search does."""

import dataclasses
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_embeddings
from keras_dml._checks import checked_integer
from keras_dml._checks import checked_pair
from keras_dml.evaluation.index_metrics import agreement
from keras_dml.search.annoy_neighbors import AnnoyNeighbors
from keras_dml.search.exact_neighbors import ExactNeighbors
from keras_dml.search.hnsw_neighbors import HNSWNeighbors
from keras_dml.search.neighbors import Calibration
from keras_dml.search.neighbors import Neighbors
from keras_dml.search.neighbors import checked_ids

_QUERIES = 1000
# A tenth of the rows is held out, but of few rows so many, up to a quarter.
_SHARE_HELD_OUT = 10
_HELD_OUT_OF_FEW = 400
_LARGEST_SHARE_HELD_OUT = 4
_TRIED_FIRST = 200
_TIMED = 200
_ROUNDS = 3
_BISECTIONS = 2
_LARGEST_SEED = 2**31 - 1
# Of the normal distribution: 99 % lie above the first, 99.9 % below the second. The
# first leaves room for the several efforts that are tried on one sample.
_LOWER, _UPPER = -2.326, 3.09


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
        build=lambda links, seed: HNSWNeighbors(links, seed=seed),
        builds=(32, 64),
        effort="ef",
        least=lambda k, links: max(k, 16),
        most=2**12,
        full=lambda count, links: count,
        full_is_exact=False,  # parts of the graph may lie apart
    ),
}
KINDS = ("exact", *_LADDERS)
"""The kinds of index."""


def calibrated_neighbors(
    kind: str,
    embeddings: npt.ArrayLike,
    k: int,
    ids: npt.ArrayLike | None = None,
    queries: npt.ArrayLike | None = None,
    target: float = 0.99,
    seed: int = 0,
) -> Neighbors:
    """Builds an index and gives it the least effort that agrees with exact search.

    Up to 1,000 queries, drawn by the seed, are searched exactly and through the index.
    Where none are given, they are a tenth of the rows, or 400 of fewer than 4,000 and a
    quarter of fewer than 1,600, held out of the index for the while: a graph of rows
    finds the neighbors of its own rows far more easily than those of new images.

    The effort, `search_k` or `ef`, is doubled until the mean `agreement` of the sample
    reaches the target beyond reasonable doubt, and halved back to within a fifth. That
    is, it reaches it with one more query that agrees on nothing, and from 2.3 standard
    errors below: 99 % confidence for one effort, so some 95 % for all that are tried.
    It takes 333 queries that agree on everything to show 99 %. If the most effort does
    not do, the index is built again with twice the trees or links, once. The most is,
    for `search_k`, 262,144 nodes, or all nodes of all trees where that is less: then
    every row is compared, and the target is reached however few queries there are. For
    `ef` it is 4,096, or as many as there are rows.

    What is chosen depends on the data and the seed alone, not on the machine's speed.
    The index's `calibration` says how far it came, and what a query costs through it
    and exactly, which is often less: then `ExactNeighbors` is the better index.

    Args:
        kind: "annoy" or "hnsw", or "exact", which there is nothing to calibrate in.
        embeddings: (n, dim) floats or (n, bytes) uint8 packed codes to index.
        k: how many neighbors will be asked for, at least 1.
        ids: (n,) names of the rows, as in `Neighbors.build`.
        queries: (m, dim) or (m, bytes), to draw the sample from. None: it is drawn
            from the rows, which costs one build more.
        target: the agreement to reach, above 0 and up to 1.
        seed: 0 … 2^31 − 1, of the index and the sample.

    Returns:
        The index, with its `calibration`; None for "exact".

    Raises:
        ValueError: if an argument is out of its range or does not fit the others, or
            there is but one row and no queries.
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
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}.")
    k = checked_integer(k, "k", 1)
    seed = checked_integer(seed, "seed", 0, _LARGEST_SEED)
    if not 0 < target <= 1:
        raise ValueError(f"target must be above 0 and at most 1; got {target!r}.")
    if queries is None:
        embeddings = checked_embeddings(embeddings, "embeddings")
    else:
        queries, embeddings = checked_pair(queries, embeddings)
    if ids is not None:
        ids = checked_ids(ids, len(embeddings))
    if queries is None and len(embeddings) < 2 and kind != "exact":
        raise ValueError(
            "embeddings has one row, and so nothing to find for it. Pass queries, or "
            "more rows."
        )
    if kind == "exact":
        index = ExactNeighbors()
        index.build(embeddings, ids)
        return index
    drawn = np.random.default_rng(seed).permutation(
        len(embeddings) if queries is None else len(queries)
    )
    if queries is None:
        held_out = drawn[: _held_out(len(drawn))]
        trial = _Trial(np.delete(embeddings, held_out, 0), embeddings[held_out], k)
    else:
        trial = _Trial(embeddings, queries[drawn[:_QUERIES]], k)

    best = None
    ladder = _LADDERS[kind]
    for thoroughness in ladder.builds:
        index = ladder.build(thoroughness, seed)
        index.build(trial.gallery)
        full = ladder.full(len(embeddings), thoroughness)
        most = max(trial.k, min(ladder.most, full))
        least = min(ladder.least(trial.k, thoroughness), most)
        found, reached = _least_effort(trial, target, index, ladder.effort, least, most)
        is_exact = ladder.full_is_exact and getattr(index, ladder.effort) >= full
        reached = reached or is_exact
        if best is None or found > best[1]:
            best = index, found, reached
        if reached:
            break
    index, found, reached = best
    if not reached:
        found = trial.mean_agreement(index)
    calibration = Calibration(
        k=trial.k,
        target=float(target),
        agreement=found,
        reached=reached,
        queries=len(trial.queries),
        seed=seed,
        ms_per_query=trial.milliseconds(index),
        exact_ms_per_query=trial.milliseconds(trial.exact),
    )
    if queries is None:
        index.build(embeddings, ids)
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


def _held_out(rows):
    most = max(1, rows // _LARGEST_SHARE_HELD_OUT)
    return min(_QUERIES, max(rows // _SHARE_HELD_OUT, min(_HELD_OUT_OF_FEW, most)))


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
        shares = self._agreement(index, slice(_TRIED_FIRST))
        if _bound(shares, _UPPER) < target:
            return float(shares.mean()), False
        if len(self.queries) > _TRIED_FIRST:
            rest = self._agreement(index, slice(_TRIED_FIRST, None))
            shares = np.concatenate([shares, rest])
        return float(shares.mean()), bool(_bound(shares, _LOWER) >= target)

    def mean_agreement(self, index):
        """The mean agreement of the whole sample."""
        return float(self._agreement(index, slice(None)).mean())

    def milliseconds(self, index):
        """What a query costs through an index."""
        queries = self.queries[:_TIMED]
        laps = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            index.search(queries, self.k)
            laps.append(time.perf_counter() - start)
        return 1000 * statistics.median(laps) / len(queries)

    def _agreement(self, index, part):
        found, _ = index.search(self.queries[part], self.k)
        return agreement(found, self.nearest[part], self.queries[part], self.gallery)


def _least_effort(trial, target, index, name, effort, most):
    """Sets the least effort that reaches the target, or the most there is."""

    def tried(effort):
        setattr(index, name, effort)
        return trial.agreement(index, target)

    short = None
    found, reached = tried(effort)
    while not reached and effort < most:
        short, effort = effort, min(2 * effort, most)
        found, reached = tried(effort)
    if reached and short is not None:
        for _ in range(_BISECTIONS):
            middle = round((short * effort) ** 0.5)
            agreed, enough = tried(middle)
            if enough:
                effort, found = middle, agreed
            else:
                short = middle
    setattr(index, name, effort)
    return found, reached


def _bound(shares, deviations):
    # Where all agree their deviation is 0 and says nothing. A share on the other side,
    # for good measure, as Agresti and Coull add to proportions.
    shares = np.append(shares, deviations > 0)
    return shares.mean() + deviations * shares.std() / len(shares) ** 0.5
