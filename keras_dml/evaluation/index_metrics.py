"""What an approximate index finds: recall, agreement with exact search, and costs.

`index_metrics` measures all three. Beside it stand the functions of ids that it is
made of, which take what any search returns: `agreement`, `recall_of_neighbors` and
`without_self`. An index is whatever has the shape of `SearchIndex`.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import numpy as np
import numpy.typing as npt

from keras_dml._checks import check_distinct
from keras_dml._checks import checked_ks
from keras_dml._checks import checked_number
from keras_dml._checks import checked_pair
from keras_dml._similarity import ROW_MULTIPLE
from keras_dml._similarity import comparable_rows
from keras_dml._similarity import nearest_rows
from keras_dml._similarity import unit_rows
from keras_dml.evaluation._labels import checked_labels
from keras_dml.evaluation._labels import class_numbers
from keras_dml.evaluation._labels import pair_classes
from keras_dml.evaluation.embed import binary_codes

_QUERIES_AT_ONCE = 1000
_BLOCK_VALUES = 2**22
_INT64_MAX = np.iinfo(np.int64).max


class SearchIndex(Protocol):
    """What is measured: an index of `keras_dml.search`, or any other of this shape."""

    @property
    def kind(self) -> str:
        """What the table calls it, such as "annoy"; "exact" for exact search."""

    @property
    def metric(self) -> str | None:
        """The metric: "cosine", of embeddings, or "hamming", of packed codes."""

    @property
    def count(self) -> int:
        """Rows in the index."""

    @property
    def ids(self) -> np.ndarray | None:
        """None, as the rows must go by their numbers."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Settings of the index: JSON values by name, written beside the figures."""

    @property
    def calibration(self) -> Any:
        """A dataclass that is written beside the figures, or None."""

    def search(self, queries: npt.ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds row numbers and similarities, (n, k) each, best first, −1 for none."""


def check_index(index: Any) -> None:
    """Makes sure that an index is a `SearchIndex`.

    Raises:
        ValueError: if it is not.
    """
    wanted = ("kind", "metric", "count", "ids", "parameters", "calibration", "search")
    if not all(hasattr(index, name) for name in wanted):
        raise ValueError(
            "index must be an index of keras_dml.search, such as calibrated_neighbors "
            f"builds, or another with {', '.join(wanted)}; got {index!r}."
        )


def index_metrics(
    index: SearchIndex,
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery: npt.ArrayLike | None = None,
    gallery_labels: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
) -> dict[str, Any]:
    """Measures Recall@K through an index, its agreement with exact search, and costs.

    Args:
        index: of the gallery's rows in their order, or of the queries' if gallery is
            None. One of packed codes is searched with the `binary_codes` of float
            queries.
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

        "agreement@1" is the mean `agreement` over all queries. The other is that at the
        largest of `ks`, or at the size of the gallery if that is less, over the first
        thousand queries. Costs are milliseconds a query of searching for as many
        neighbors, a thousand queries at once; exact search is timed on the first
        thousand. "calibration" is None where there was none.

    Raises:
        ValueError: if an argument is out of its range, embeddings and labels do not fit
            together, there is nothing to find, or the index is not of these rows.

    Example:
        >>> from keras_dml.search import AnnoyNeighbors
        >>> embeddings = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]
        >>> index = AnnoyNeighbors(trees=10)
        >>> index.build(embeddings)
        >>> metrics = index_metrics(index, embeddings, [7, 7, 8, 8], ks=(1, 2))
        >>> metrics["recall@1"], metrics["agreement@1"], metrics["agreement@2"]
        (1.0, 1.0, 1.0)
    """
    ks = checked_ks(ks)
    check_index(index)
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
    others = comparable_rows(rows, ROW_MULTIPLE)

    def search_exactly(queries, k):
        some = comparable_rows(queries, 1)
        return nearest_rows(some, others, len(rows), k, queries.dtype == np.uint8)

    own = np.arange(len(queries)) if gallery is None else None
    most = min(max(ks), len(rows) - (own is not None))

    hits = dict.fromkeys(ks, 0.0)
    first = np.empty(len(queries))
    seconds = 0.0
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        found, lap = _timed(index.search, queries[part], most, own, part)
        seconds += lap
        # A K beyond the size of the gallery asks for all of it.
        within = [min(k, most) for k in ks]
        recalls = recall_of_neighbors(
            found, classes[0][part], classes[1], sorted(set(within))
        )
        for k, place in zip(ks, within, strict=True):
            hits[k] += recalls[f"recall@{place}"] * len(found)
        wanted = most if start == 0 else 1
        nearest, lap = _timed(search_exactly, queries[part], wanted, own, part)
        first[part] = agreement(found[:, :1], nearest[:, :1], queries[part], rows)
        if start == 0:
            exact_ms = 1000 * lap / len(found)
            of_most = agreement(found, nearest, queries[part], rows)
    agreements = {"agreement@1": float(first.mean())}
    if most > 1:
        agreements[f"agreement@{most}"] = float(of_most.mean())
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


def _timed(search, queries, k, own, part):
    """Gives the ids of k neighbors, the query left out, and the seconds it took."""
    start = time.perf_counter()
    found, _ = search(queries, k if own is None else k + 1)
    seconds = time.perf_counter() - start
    return (found if own is None else without_self(found, own[part])), seconds


def agreement(
    found_ids: npt.ArrayLike,
    exact_ids: npt.ArrayLike,
    queries: npt.ArrayLike,
    gallery: npt.ArrayLike | None = None,
    tolerance: float = 1e-6,
) -> np.ndarray:
    """Gives for each query the share of the k found that are among its k nearest.

    Neighbors are compared by how near they are, not by id: one counts if it is as near
    as the k-th nearest, so of two duplicates either is right. At k = 1 this tells
    whether the nearest was found.

    Args:
        found_ids: (n, k) integers, the gallery rows found for each query, no row twice;
            −1 where nothing was found, which never agrees.
        exact_ids: (n, k) integers, the rows that are nearest, best first, none twice.
        queries: (n, dim) float16, float32 or float64, compared by cosine, or (n, bytes)
            uint8 packed codes, compared by Hamming distance.
        gallery: (m, dim) or (m, bytes), the rows that the ids number. None: the queries
            themselves.
        tolerance: how much lower the cosine may be and still count as equal, at least
            0.

    Returns:
        The shares, float64 (n,) in 0 … 1. Their mean is the agreement of the search.

    Raises:
        ValueError: if the embeddings are empty or not finite, the shapes do not fit
            together, an id numbers no row or is in a row twice, or tolerance is no
            number or out of range.

    Example:
        >>> gallery = [[0.9, 0.1], [1.0, 0.0], [2.0, 0.0]]
        >>> agreement([[1], [1]], [[2], [0]], [[1.0, 0.0], [0.8, 0.2]], gallery)
        array([1., 0.])
    """
    tolerance = checked_number(tolerance, "tolerance", least=0, example=1e-6)
    queries, gallery = checked_pair(queries, gallery)
    gallery = queries if gallery is None else gallery
    shape, most = (len(queries), "k"), len(gallery) - 1
    found_ids = _checked_ids(found_ids, "found_ids", shape, -1, most)
    exact_ids = _checked_ids(exact_ids, "exact_ids", shape, 0, most)
    if found_ids.shape != exact_ids.shape:
        raise ValueError(
            "found_ids and exact_ids must be of one shape; got "
            f"{found_ids.shape} and {exact_ids.shape}. Search for the same k."
        )
    check_distinct(found_ids, "found_ids")
    check_distinct(exact_ids, "exact_ids")
    found = _similarities(queries, gallery, found_ids)
    kth = _similarities(queries, gallery, exact_ids[:, -1:])
    return np.mean((found_ids >= 0) & (found >= kth - tolerance), axis=1)


def _similarities(queries, gallery, ids):
    similarities = np.empty(ids.shape)
    step = max(1, _BLOCK_VALUES // (gallery.shape[1] * ids.shape[1]))
    for start in range(0, len(ids), step):
        block = ids[start : start + step]
        rows = gallery[block.ravel()]
        own = queries[start : start + step]
        if queries.dtype == np.uint8:
            different = np.unpackbits(rows.reshape(*block.shape, -1) ^ own[:, None], -1)
            similarities[start : start + step] = -different.sum(axis=-1, dtype=np.int64)
        else:
            # In float64: float32 sums of 2,048 products differ by about the tolerance.
            rows = unit_rows(rows).reshape(*block.shape, -1).astype(np.float64)
            own = unit_rows(own).astype(np.float64)[:, :, None]
            similarities[start : start + step] = (rows @ own)[:, :, 0]
    return similarities


def recall_of_neighbors(
    ids: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    ks: Sequence[int] = (1, 2, 4, 8),
) -> dict[str, float]:
    """Gives the share of queries with an image of their class among the first K ids.

    Args:
        ids: (n, k) integers, for each query rows of the gallery, nearest first, −1
            where the index found nothing; k at least the largest of `ks`. Where queries
            search one another, pass them through `without_self` first.
        query_labels: (n,) integers of any size, or strings.
        gallery_labels: (m,), of the same kind.
        ks: the ranks K, distinct and at least 1.

    Returns:
        {"recall@1": ..., ...} for each K in the order of `ks`, in 0 … 1.

    Raises:
        ValueError: if the shapes, types or labels do not fit together, an id is not in
            −1 … m − 1, or ks are not distinct integers of 1 … k.

    Example:
        >>> recall_of_neighbors([[1, 0], [0, 2]], [7, 9], [7, 8, 9], ks=(1, 2))
        {'recall@1': 0.0, 'recall@2': 1.0}
    """
    ks = checked_ks(ks)
    rows = np.size(gallery_labels)
    if rows == 0:
        raise ValueError(
            "gallery_labels is empty. Pass the labels of what was indexed."
        )
    gallery_labels = checked_labels(gallery_labels, "gallery_labels", rows)
    ids = _checked_ids(ids, "ids", ("n", "k"), -1, rows - 1)
    if max(ks) > ids.shape[1]:
        raise ValueError(
            f"ks asks for {max(ks)} neighbors, but ids has {ids.shape[1]} a query. "
            "Search for more, and fill up with -1 where there are no more."
        )
    query_labels = checked_labels(query_labels, "query_labels", len(ids))
    query_classes, gallery_classes = class_numbers(query_labels, gallery_labels)
    hits = (gallery_classes[ids] == query_classes[:, np.newaxis]) & (ids >= 0)
    return {f"recall@{k}": float(hits[:, :k].any(axis=1).mean()) for k in ks}


def without_self(ids: npt.ArrayLike, own_ids: npt.ArrayLike) -> np.ndarray:
    """Leaves each query out of the neighbors found for it, by its id.

    Where a query is not among its neighbors, which happens among duplicates and in an
    approximate search, the last neighbor is left out instead: the first is another
    image.

    Args:
        ids: (n, k + 1) integers, nearest first, no id twice in a row but −1.
        own_ids: (n,) integers in 0 … 2^63 − 1, the id of each query in the index.

    Returns:
        The others, int64 (n, k), in the same order.

    Raises:
        ValueError: if the shapes do not fit together, k is below 1, an id is no
            integer or out of range, or a row of ids holds one twice.

    Example:
        >>> without_self([[0, 2, 1], [0, 2, 3]], [0, 1]).tolist()
        [[2, 1], [0, 2]]
    """
    others = ~is_self(ids, own_ids)
    return np.asarray(ids, np.int64)[others].reshape(len(others), -1)


def is_self(ids: npt.ArrayLike, own_ids: npt.ArrayLike) -> np.ndarray:
    """Marks, in each row, the one neighbor that `without_self` leaves out.

    Args:
        ids: (n, k + 1) integers, as for `without_self`.
        own_ids: (n,) integers, likewise.

    Returns:
        Booleans (n, k + 1), one of each row true.

    Raises:
        ValueError: as `without_self` does.
    """
    ids = _checked_ids(ids, "ids", ("n", "k"), -1, _INT64_MAX)
    own_ids = _checked_ids(own_ids, "own_ids", (len(ids),), 0, _INT64_MAX)
    if ids.shape[1] < 2:
        raise ValueError(
            "ids must have shape (n, k + 1) with k at least 1; got "
            f"{ids.shape}. Search for one neighbor more."
        )
    check_distinct(ids, "ids")
    own = ids == own_ids[:, np.newaxis]
    own[~own.any(axis=1), -1] = True
    return own


def _checked_ids(ids, name, shape, lowest, highest):
    """Returns ids as int64, once known to fit; a letter in `shape` is any size."""
    ids = np.asarray(ids)
    fits = ids.ndim == len(shape) and all(
        isinstance(size, str) or size == given
        for size, given in zip(shape, ids.shape, strict=True)
    )
    if not fits or not ids.size or ids.dtype.kind not in "iu":
        wanted = str(shape).replace("'", "")
        raise ValueError(
            f"{name} must be integers of shape {wanted}, not empty; got {ids.dtype} of "
            f"shape {ids.shape}. Pass ids as a search gives them."
        )
    if ids.min() < lowest or ids.max() > highest:
        raise ValueError(
            f"{name} must lie in {lowest} … {highest}; got {ids.min()} … {ids.max()}. "
            "Pass the row numbers or ids of what was searched."
        )
    return ids.astype(np.int64, copy=False)
