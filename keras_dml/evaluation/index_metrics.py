"""Figures through an index, never without their agreement with exact search."""

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.agreement import agreement
from keras_dml.evaluation.binary_codes import binary_codes
from keras_dml.evaluation.checked_embeddings import checked_pair
from keras_dml.evaluation.checked_ks import checked_ks
from keras_dml.evaluation.exact_neighbours import ExactNeighbours
from keras_dml.evaluation.neighbours import Neighbours
from keras_dml.evaluation.pair_classes import pair_classes
from keras_dml.evaluation.recall_of_neighbours import recall_of_neighbours
from keras_dml.evaluation.recall_of_neighbours import without_self

_QUERIES_AT_ONCE = 1000


def index_metrics(
    index: Neighbours,
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery: npt.ArrayLike | None = None,
    gallery_labels: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
) -> dict:
    """Measures Recall@K through an index, its agreement with exact search, and costs.

    Args:
        index: of the gallery's rows in their order, or of the queries' without one.
            One of packed codes is searched with the `binary_codes` of float queries.
        queries: (n, dim) float16, float32 or float64, or (n, bytes) uint8 packed codes.
        query_labels: (n,) integers of any size, or strings.
        gallery: (m, dim) or (m, bytes), what was indexed. None: every query searches
            all the others.
        gallery_labels: (m,); given exactly when `gallery` is.
        ks: the ranks K, distinct and at least 1.

    Returns:
        A dictionary that `json.dumps` takes, shares in 0 … 1:

            {"kind": "annoy", "metric": "cosine", "recall@1": 0.64, ...,
             "agreement@1": 0.995, "agreement@8": 0.991,
             "ms_per_query": 0.9, "exact_ms_per_query": 0.2,
             "parameters": {"trees": 50, "search_k": 10000, "seed": 0},
             "calibration": {"k": 8, "target": 0.99, ...}}

        "agreement@1" is the mean `agreement` over all queries; the other, at the
        largest of `ks` or all there is to find, that over the first thousand. Costs are
        of searching for so many, a thousand queries at once, by exact search those
        first thousand. "calibration" is None where there was none.

    Raises:
        ValueError: if an argument is out of its range, embeddings and labels do not fit
            together, there is nothing to find, or the index is not of these rows.
    """
    ks = checked_ks(ks)
    queries, gallery = checked_pair(queries, gallery)
    classes = pair_classes(queries, query_labels, gallery, gallery_labels)
    rows = queries if gallery is None else gallery
    if gallery is None and len(rows) < 2:
        raise ValueError(
            "queries has one row, and so nothing to find for it. Pass a gallery, or "
            "more rows."
        )
    if index.count != len(rows) or index.ids is not None:
        raise ValueError(
            f"index must hold the {len(rows)} rows that are searched, by their row "
            f"numbers; it holds {index.count}"
            f"{'' if index.ids is None else ' with ids of their own'}. Build it from "
            "those rows, without ids."
        )
    if index.metric == "hamming" and queries.dtype != np.uint8:
        queries = binary_codes(queries)
        rows = queries if gallery is None else binary_codes(gallery)
    exact = ExactNeighbours()
    exact.build(rows)
    own = np.arange(len(queries)) if gallery is None else None
    most = min(max(ks), len(rows) - (own is not None))

    hits = dict.fromkeys(ks, 0.0)
    first = np.empty(len(queries))
    seconds = 0.0
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        found, lap = _timed(index, queries[part], most, own, part)
        seconds += lap
        for k, share in _recall(found, classes, part, ks).items():
            hits[k] += share * len(found)
        wanted = most if start == 0 else 1
        nearest, lap = _timed(exact, queries[part], wanted, own, part)
        near = found[:, :1], nearest[:, :1], queries[part], rows
        first[part] = agreement(*near)
        if start == 0:
            exact_ms = 1000 * lap / len(found)
            of_most = agreement(found, nearest, queries[part], rows)
    agreements = {f"agreement@{most}": float(of_most.mean())}
    agreements = {"agreement@1": float(first.mean())} | (agreements if most > 1 else {})
    return {
        "kind": index.kind,
        "metric": index.metric,
        **{f"recall@{k}": hits[k] / len(queries) for k in ks},
        **agreements,
        "ms_per_query": 1000 * seconds / len(queries),
        "exact_ms_per_query": exact_ms,
        "parameters": index.parameters,
        "calibration": index.calibration and dataclasses.asdict(index.calibration),
    }


def _timed(index, queries, k, own, part):
    start = time.perf_counter()
    found, _ = index.search(queries, k if own is None else k + 1)
    seconds = time.perf_counter() - start
    return (found if own is None else without_self(found, own[part])), seconds


def _recall(found, classes, part, ks):
    # A K beyond all there is to find asks for all of it.
    within = {k: min(k, found.shape[1]) for k in ks}
    recalls = recall_of_neighbours(
        found, classes[0][part], classes[1], sorted(set(within.values()))
    )
    return {k: recalls[place] for k, place in within.items()}
