"""Exact nearest neighbours."""

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.checked_embeddings import checked_pair
from keras_dml.evaluation.checked_integer import checked_integer
from keras_dml.evaluation.similarity_tiles import similarity_tiles


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

    ids = np.empty((len(queries), k), np.int64)
    similarities = np.empty((len(queries), k), np.float32)
    for start, tile in similarity_tiles(queries, gallery):
        nearest = _first_columns(tile, k)
        ids[start : start + len(tile)] = nearest
        similarities[start : start + len(tile)] = np.take_along_axis(tile, nearest, 1)
    return ids, similarities


def _first_columns(tile, k):
    if k == 1:
        return tile.argmax(axis=1)[:, np.newaxis]
    columns = np.empty((len(tile), k), np.int64)
    for row, scores in enumerate(tile):
        # The k-th score, and every column that reaches it: partitioning the columns
        # themselves would choose among tied ones at random.
        kth = np.partition(scores, -k)[-k]
        reached = np.flatnonzero(scores >= kth)
        columns[row] = reached[np.argsort(-scores[reached], kind="stable")[:k]]
    return columns
