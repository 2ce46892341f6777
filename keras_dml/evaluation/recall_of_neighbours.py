"""Recall@K of neighbours that some index has found."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.check_distinct import check_distinct
from keras_dml.evaluation.checked_ks import checked_ks
from keras_dml.evaluation.class_numbers import checked_labels
from keras_dml.evaluation.class_numbers import class_numbers


def recall_of_neighbours(
    ids: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    ks: Sequence[int] = (1, 2, 4, 8),
) -> dict[int, float]:
    """Gives the share of queries with an image of their class among the first K ids.

    Args:
        ids: (n, k) integers, for each query rows of the gallery, nearest first, −1
            where the index found nothing; k at least the largest of `ks`. Where queries
            search one another, pass them through `without_self` first.
        query_labels: (n,) integers of any size, or strings.
        gallery_labels: (m,), of the same kind.
        ks: the ranks K, distinct and at least 1.

    Returns:
        For each K its recall, in 0 … 1.

    Raises:
        ValueError: if the shapes, types or labels do not fit together, an id is not in
            −1 … m − 1, or ks are not distinct integers of 1 … k.

    Example:
        >>> recall_of_neighbours([[1, 0], [0, 2]], [7, 9], [7, 8, 9], ks=(1, 2))
        {1: 0.0, 2: 1.0}
    """
    ks = checked_ks(ks)
    rows = np.size(gallery_labels)
    if rows == 0:
        raise ValueError(
            "gallery_labels is empty. Pass the labels of what was indexed."
        )
    gallery_labels = checked_labels(gallery_labels, "gallery_labels", rows)
    ids = _checked_ids(ids, rows)
    if max(ks) > ids.shape[1]:
        raise ValueError(
            f"ks asks for {max(ks)} neighbours, but ids has {ids.shape[1]} a query. "
            "Search for more, and fill up with −1 where there are no more."
        )
    query_labels = checked_labels(query_labels, "query_labels", len(ids))
    query_classes, gallery_classes = class_numbers(query_labels, gallery_labels)
    hits = (gallery_classes[ids] == query_classes[:, np.newaxis]) & (ids >= 0)
    return {k: float(hits[:, :k].any(axis=1).mean()) for k in ks}


def without_self(ids: npt.ArrayLike, own_ids: npt.ArrayLike) -> np.ndarray:
    """Leaves each query out of the neighbours found for it, by its id.

    Where a query is not among its neighbours, as duplicates or an approximate search
    can have it, the last neighbour goes instead: the first one is somebody else.

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
    """Marks, in each row, the one neighbour that `without_self` leaves out.

    Args:
        ids: (n, k + 1) integers, nearest first, no id twice in a row but −1.
        own_ids: (n,) integers in 0 … 2^63 − 1, the id of each query in the index.

    Returns:
        Booleans (n, k + 1), one of each row true.

    Raises:
        ValueError: if the shapes do not fit together, k is below 1, an id is no
            integer or out of range, or a row of ids holds one twice.
    """
    ids = _checked_ids(ids)
    own_ids = np.asarray(own_ids)
    if own_ids.shape != (len(ids),) or ids.shape[1] < 2:
        raise ValueError(
            "ids must have shape (n, k + 1) with k at least 1, and own_ids (n,); got "
            f"{ids.shape} and {own_ids.shape}. Search for one neighbour more."
        )
    wrong = own_ids
    if own_ids.dtype.kind in "iu":
        wrong = own_ids[(own_ids < 0) | (own_ids > np.iinfo(np.int64).max)]
    if wrong.size:
        raise ValueError(
            "own_ids must be integers in 0 … 2^63 − 1, the id of each query in the "
            f"index; got {wrong[0]!r}. Pass the ids that it was built with, or row "
            "numbers where there were none."
        )
    check_distinct(ids, "ids")
    own = ids == own_ids[:, np.newaxis]
    own[~own.any(axis=1), -1] = True
    return own


def _checked_ids(ids, rows=2**63):
    ids = np.asarray(ids)
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or 0 in ids.shape:
        raise ValueError(
            "ids must be integers of shape (n, k), not empty, as an index gives them; "
            f"got {ids.dtype} of shape {ids.shape}."
        )
    if ids.min() < -1 or ids.max() >= rows:
        raise ValueError(
            f"ids must lie in −1 … {rows - 1}, as an index numbers its rows; got "
            f"{ids.min()} … {ids.max()}. Pass what a search of the same rows found."
        )
    return ids.astype(np.int64, copy=False)
