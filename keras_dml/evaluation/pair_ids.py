"""Which gallery images are the same items as the queries."""

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.class_numbers import checked_labels
from keras_dml.evaluation.class_numbers import class_numbers


def pair_ids(
    queries: np.ndarray,
    query_ids: npt.ArrayLike | None,
    gallery: np.ndarray | None,
    gallery_ids: npt.ArrayLike | None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Finds the pairs of a query and a gallery image that have one id.

    Args:
        queries: (n, any).
        query_ids: (n,) integers of any size, or strings; None where none are given.
        gallery: (m, any), or None where the queries search one another.
        gallery_ids: (m,) of the same kind; given exactly when `query_ids` are.

    Returns:
        Rows of the queries and of the gallery, int64 (pairs,) each; None without ids.

    Raises:
        ValueError: if only one side has ids, there is no gallery, or ids do not fit the
            embeddings or each other.
    """
    if (query_ids is None) != (gallery_ids is None):
        given = "gallery_ids" if query_ids is None else "query_ids"
        raise ValueError(
            f"query_ids and gallery_ids go together; got only {given}. Pass both, or "
            "neither where no image is on both sides."
        )
    if query_ids is None:
        return None
    if gallery is None:
        raise ValueError(
            "query_ids needs a gallery. Leave ids out where the queries search one "
            "another: each is left out of its own results by its row."
        )
    query_ids = checked_labels(query_ids, "query_ids", len(queries))
    gallery_ids = checked_labels(gallery_ids, "gallery_ids", len(gallery))
    query_numbers, gallery_numbers = class_numbers(
        query_ids, gallery_ids, ("query_ids", "gallery_ids")
    )
    order = np.argsort(gallery_numbers, kind="stable")
    in_order = gallery_numbers[order]
    starts = np.searchsorted(in_order, query_numbers, side="left")
    counts = np.searchsorted(in_order, query_numbers, side="right") - starts
    query_rows = np.repeat(np.arange(len(query_numbers)), counts)
    within = np.arange(len(query_rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return query_rows, order[np.repeat(starts, counts) + within]
