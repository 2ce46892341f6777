"""How often an approximate search finds what the exact one does."""

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.checked_embeddings import checked_floats
from keras_dml.evaluation.checked_embeddings import checked_pair
from keras_dml.evaluation.unit_rows import unit_rows

_BLOCK_VALUES = 2**20


def agreement(
    found_ids: npt.ArrayLike,
    exact_ids: npt.ArrayLike,
    queries: npt.ArrayLike,
    gallery: npt.ArrayLike | None = None,
    tolerance: float = 1e-6,
) -> float:
    """Gives the share of queries whose found neighbour is as near as the exact one.

    Neighbours are compared by cosine, not by id: of two duplicates either is right.

    Args:
        found_ids: (n,) integers, the gallery row found first for each query, −1 where
            nothing was found, which never agrees.
        exact_ids: (n,) integers, the row that is nearest.
        queries: (n, dim) float16, float32 or float64.
        gallery: (m, dim), the rows the ids number. None: the queries themselves.
        tolerance: how much lower the cosine may be and still count as equal.

    Returns:
        The share, in 0 … 1.

    Raises:
        ValueError: if the embeddings are empty, not finite or packed codes, the
            shapes do not fit together, or an id numbers no row.

    Example:
        >>> gallery = [[0.9, 0.1], [1.0, 0.0], [2.0, 0.0]]
        >>> agreement([1, 1], [2, 0], [[1.0, 0.0], [0.8, 0.2]], gallery)
        0.5
    """
    checked_floats(queries, "queries")
    queries, gallery = checked_pair(queries, gallery)
    unit_queries = unit_rows(queries)
    unit_gallery = unit_queries if gallery is None else unit_rows(gallery)
    found_ids, exact_ids = np.asarray(found_ids), np.asarray(exact_ids)
    _check_ids(found_ids, "found_ids", len(queries), -1, len(unit_gallery))
    _check_ids(exact_ids, "exact_ids", len(queries), 0, len(unit_gallery))
    found = _cosines(unit_queries, unit_gallery, found_ids)
    exact = _cosines(unit_queries, unit_gallery, exact_ids)
    return float(np.mean((found_ids >= 0) & (found >= exact - tolerance)))


def _check_ids(ids, name, queries, lowest, rows):
    if ids.shape != (queries,) or ids.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be integers of shape ({queries},), one a query; got "
            f"{ids.dtype} of shape {ids.shape}. Pass the first column of the ids."
        )
    if ids.min() < lowest or ids.max() >= rows:
        raise ValueError(
            f"{name} must lie in {lowest} … {rows - 1}, the rows of the gallery; got "
            f"{ids.min()} … {ids.max()}. Pass the gallery that was searched."
        )


def _cosines(unit_queries, unit_gallery, ids):
    # In float64: float32 sums of 2,048 products differ by about the tolerance.
    cosines = np.empty(len(ids))
    step = max(1, _BLOCK_VALUES // unit_queries.shape[1])
    for start in range(0, len(ids), step):
        block = slice(start, start + step)
        pairs = unit_queries[block], unit_gallery[ids[block]]
        cosines[block] = np.einsum("ij,ij->i", *pairs, dtype=np.float64)
    return cosines
