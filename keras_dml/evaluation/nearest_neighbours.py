"""Exact nearest neighbours."""

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.checked_embeddings import checked_pair
from keras_dml.evaluation.checked_integer import checked_integer
from keras_dml.evaluation.exact_neighbours import ExactNeighbours
from keras_dml.evaluation.recall_of_neighbours import is_self


def nearest_neighbours(
    queries: npt.ArrayLike, gallery: npt.ArrayLike | None = None, k: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the k gallery rows most similar to each query, by comparing it with all.

    Args:
        queries: (n, dim) float16, float32 or float64, compared by cosine, or
            (n, bytes) uint8 packed codes, compared by Hamming distance.
        gallery: (m, dim) or (m, bytes). None: each query searches all the other
            queries, and is left out itself by its row.
        k: how many neighbours to give, in 1 … m (1 … n − 1 without a gallery).

    Returns:
        Row numbers of the gallery, int64 (n, k), and similarities, float32 (n, k):
        the cosine, or minus the Hamming distance. Best first; of equally similar rows
        the lower number first.

    Raises:
        ValueError: if embeddings are empty or not finite, their shapes or types do not
            fit together, or k is out of range.

    Example:
        >>> embeddings = [[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]]
        >>> ids, similarities = nearest_neighbours(embeddings, k=2)
        >>> ids.tolist()
        [[2, 1], [2, 0], [1, 0]]
    """
    queries, gallery = checked_pair(queries, gallery)
    available = len(queries) - 1 if gallery is None else len(gallery)
    if checked_integer(k, "k", 1) > available:
        raise ValueError(
            f"k must be at most {available}, the images there are to find; got {k}. "
            "Lower k or pass a larger gallery."
        )
    index = ExactNeighbours()
    index.build(queries if gallery is None else gallery)
    if gallery is not None:
        return index.search(queries, k)
    ids, similarities = index.search(queries, k + 1)
    others = ~is_self(ids, np.arange(len(queries)))
    return ids[others].reshape(-1, k), similarities[others].reshape(-1, k)
