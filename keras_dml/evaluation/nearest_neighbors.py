"""Exact nearest neighbors."""

import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_integer
from keras_dml._checks import checked_pair
from keras_dml._similarity import ROW_MULTIPLE
from keras_dml._similarity import comparable_rows
from keras_dml._similarity import nearest_rows
from keras_dml.evaluation.index_metrics import is_self


def nearest_neighbors(
    queries: npt.ArrayLike, gallery: npt.ArrayLike | None = None, k: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k gallery rows most similar to each query, by comparing it with all.

    To search the same gallery again and again, build a
    `keras_dml.search.ExactNeighbors` once.

    Args:
        queries: (n, dim) float16, float32 or float64, compared by cosine, or
            (n, bytes) uint8 packed codes, compared by Hamming distance.
        gallery: (m, dim) or (m, bytes). None: each query searches all the other
            queries, and is left out itself by its row.
        k: how many neighbors to give, in 1 … m (1 … n − 1 without a gallery).

    Returns:
        Row numbers of the gallery, int64 (n, k), and similarities, float32 (n, k):
        the cosine, or minus the Hamming distance. Best first; of equally similar rows
        the lower number first.

    Raises:
        ValueError: if embeddings are empty or not finite, their shapes or types do not
            fit together, or k is out of range.

    Example:
        >>> embeddings = [[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]]
        >>> ids, similarities = nearest_neighbors(embeddings, k=2)
        >>> ids.tolist()
        [[2, 1], [2, 0], [1, 0]]
    """
    queries, gallery = checked_pair(queries, gallery)
    available = len(queries) - 1 if gallery is None else len(gallery)
    k = checked_integer(k, "k", 1)
    if k > available:
        raise ValueError(
            f"k must be at most {available}, the images there are to find; got {k}. "
            "Lower k or pass a larger gallery."
        )
    searched = queries if gallery is None else gallery
    others = comparable_rows(searched, ROW_MULTIPLE)
    rows = others[: len(queries)] if gallery is None else comparable_rows(queries, 1)
    are_codes = queries.dtype == np.uint8
    if gallery is not None:
        return nearest_rows(rows, others, len(searched), k, are_codes)
    ids, similarities = nearest_rows(rows, others, len(searched), k + 1, are_codes)
    kept = ~is_self(ids, np.arange(len(queries)))
    return ids[kept].reshape(-1, k), similarities[kept].reshape(-1, k)
