"""How much of what exact search finds an approximate search finds too."""

import math
from numbers import Real

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.check_distinct import check_distinct
from keras_dml.evaluation.checked_embeddings import checked_pair
from keras_dml.evaluation.unit_rows import unit_rows

_BLOCK_VALUES = 2**22


def agreement(
    found_ids: npt.ArrayLike,
    exact_ids: npt.ArrayLike,
    queries: npt.ArrayLike,
    gallery: npt.ArrayLike | None = None,
    tolerance: float = 1e-6,
) -> np.ndarray:
    """Gives for each query the share of the k found that are among its k nearest.

    Neighbours are compared by how near they are, not by id: one counts if it is as near
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
    if (
        not isinstance(tolerance, Real)
        or isinstance(tolerance, bool)
        or not 0 <= tolerance < math.inf
    ):
        raise ValueError(
            "tolerance must be a number, at least 0 and finite, such as 1e-6; got "
            f"{tolerance!r}."
        )
    queries, gallery = checked_pair(queries, gallery)
    gallery = queries if gallery is None else gallery
    found_ids, exact_ids = np.asarray(found_ids), np.asarray(exact_ids)
    _check_ids(found_ids, "found_ids", len(queries), -1, len(gallery))
    _check_ids(exact_ids, "exact_ids", len(queries), 0, len(gallery))
    if found_ids.shape != exact_ids.shape:
        raise ValueError(
            "found_ids and exact_ids must be of one shape; got "
            f"{found_ids.shape} and {exact_ids.shape}. Search for the same k."
        )
    found = _similarities(queries, gallery, found_ids)
    kth = _similarities(queries, gallery, exact_ids[:, -1:])
    return np.mean((found_ids >= 0) & (found >= kth - tolerance), axis=1)


def _check_ids(ids, name, queries, lowest, rows):
    if (
        ids.ndim != 2
        or len(ids) != queries
        or not ids.size
        or ids.dtype.kind not in "iu"
    ):
        raise ValueError(
            f"{name} must be integers of shape ({queries}, k), k a query; got "
            f"{ids.dtype} of shape {ids.shape}. Pass the ids as a search gives them."
        )
    if ids.min() < lowest or ids.max() >= rows:
        raise ValueError(
            f"{name} must lie in {lowest} … {rows - 1}, the rows of the gallery; got "
            f"{ids.min()} … {ids.max()}. Pass the gallery that was searched."
        )
    check_distinct(ids, name)


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
