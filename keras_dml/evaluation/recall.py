"""Exact Recall@K."""

from collections.abc import Sequence

import numpy.typing as npt

from keras_dml._checks import checked_choice
from keras_dml._checks import checked_ks
from keras_dml._checks import checked_pair
from keras_dml.evaluation._labels import pair_classes
from keras_dml.evaluation._labels import pair_ids
from keras_dml.evaluation._ranking.counting import rank_counts
from keras_dml.evaluation._ranking.figures import TIES
from keras_dml.evaluation._ranking.figures import hit_probability


def recall_at_k(
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery: npt.ArrayLike | None = None,
    gallery_labels: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
    ties: str = "expected",
    query_ids: npt.ArrayLike | None = None,
    gallery_ids: npt.ArrayLike | None = None,
) -> dict[str, float]:
    """Gives the share of queries with an image of their class among the K nearest.

    Exact, by comparing each query with every image. Nothing is sorted: a query is found
    at K when fewer than K images of other classes come before the nearest image of its
    own, and those are counted. `ranking_metrics` gives more figures from one pass,
    which takes longer.

    A query whose class has no other image is a miss. K beyond the size of the gallery
    gives the recall over all of it.

    Args:
        queries: (n, dim) float16, bfloat16, float32 or float64, compared by cosine (a
            zero row has cosine 0 with everything), or (n, bytes) uint8 packed codes, as
            `binary_codes` gives them, compared by Hamming distance. A memory-mapped
            array is read a block at a time, and may be larger than memory.
        query_labels: (n,) integers of any size, or strings.
        gallery: (m, dim) or (m, bytes), the images to search. None: each query
            searches all the other queries, and is left out itself by its row, not by
            its rank.
        gallery_labels: (m,); given exactly when `gallery` is.
        ks: the ranks K, distinct and at least 1.
        ties: how images exactly as near as one another are ranked, which short binary
            codes often are: "expected" is the expectation over every order of them,
            "worst" puts images of other classes first, and "best" last.
        query_ids: (n,) integers or strings. A gallery image with the id of the query is
            not compared with it, as when an image is on both sides.
        gallery_ids: (m,); given exactly when `query_ids` are.

    Returns:
        {"recall@1": ..., ...} for each K in the order of `ks`, in 0 … 1.

    Raises:
        ValueError: if embeddings are empty or not finite, the shapes, types, labels or
            ids do not fit together, or ks or ties are out of range.

    Example:
        >>> embeddings = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.6]]
        >>> recall_at_k(embeddings, ["cat", "cat", "dog", "cat"], ks=(1, 2))
        {'recall@1': 0.5, 'recall@2': 0.75}
    """
    ks = checked_ks(ks)
    ties = checked_choice(ties, "ties", TIES)
    queries, gallery = checked_pair(queries, gallery)
    query_classes, gallery_classes = pair_classes(
        queries, query_labels, gallery, gallery_labels
    )
    same = pair_ids(queries, query_ids, gallery, gallery_ids)
    most = len(gallery_classes)

    def measure(counts):
        at_best = counts.negatives_above, counts.negatives_tied, counts.positives_tied
        return [hit_probability(*at_best, min(k, most), ties) for k in ks]

    recalls = rank_counts(
        queries,
        query_classes,
        gallery,
        gallery_classes,
        measure,
        same=same,
        enough=max(ks),
    )
    names = [f"recall@{k}" for k in ks]
    return dict(zip(names, recalls.mean(axis=1).tolist(), strict=True))
