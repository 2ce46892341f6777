"""Exact Recall@K."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.checked_embeddings import checked_pair
from keras_dml.evaluation.checked_ks import checked_ks
from keras_dml.evaluation.pair_classes import pair_classes
from keras_dml.evaluation.rank_counts import rank_counts


def recall_at_k(
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery: npt.ArrayLike | None = None,
    gallery_labels: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
) -> dict[int, float]:
    """Gives the share of queries with an image of their class among the K nearest.

    Nothing is sorted. A query is found at K when fewer than K images of other classes
    come before its nearest image of its own class. Where images of other classes are
    exactly as near as that one, as often with binary codes, the result is the
    expectation over every order of the tied images: with a images of other classes
    nearer, and t images of other classes and p of the query's own tied, the chance to
    be found is 1 − C(t, K − a) / C(t + p, K − a) for K > a, and 0 otherwise.

    A query whose class has no other image is a miss. K beyond the size of the gallery
    gives the recall over all of it.

    Args:
        queries: (n, dim) float16, float32 or float64, compared by cosine (a zero row
            has cosine 0 with everything), or (n, bytes) uint8 packed codes, as
            `binary_codes` gives them, compared by Hamming distance.
        query_labels: (n,) integers of any size, or strings.
        gallery: (m, dim) or (m, bytes), the images to search. None: each query
            searches all the other queries, and is left out itself by its row, not by
            its rank.
        gallery_labels: (m,); given exactly when `gallery` is.
        ks: the ranks K, distinct and at least 1.

    Returns:
        For each K its recall, in 0 … 1.

    Raises:
        ValueError: if embeddings are empty or not finite, the shapes, types or labels
            do not fit together, or ks are not distinct integers of at least 1.

    Example:
        >>> embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.6]])
        >>> recall_at_k(embeddings, ["cat", "cat", "dog", "cat"], ks=(1, 2))
        {1: 0.5, 2: 0.75}
    """
    ks = checked_ks(ks)
    queries, gallery = checked_pair(queries, gallery)
    query_classes, gallery_classes = pair_classes(
        queries, query_labels, gallery, gallery_labels
    )
    counts = rank_counts(queries, query_classes, gallery, gallery_classes)
    most = len(gallery_classes)
    return {k: float(_chance_to_be_found(*counts, min(k, most)).mean()) for k in ks}


def _chance_to_be_found(above, tied_others, tied_own, k):
    """Gives the chance that one of `tied_own` is in the first k, ties in any order."""
    # C(t, r) / C(t + p, r) is a product of min(p, r) fractions, symmetric in p and r;
    # no factorial, so nothing overflows. A query without an image of its class has
    # p = 0: an empty product, a sure miss.
    tied = tied_others + tied_own
    places = k - above
    factors = np.minimum(tied_own, places)
    longer = np.maximum(tied_own, places)
    miss = np.ones(len(above))
    for i in range(max(0, factors.max())):
        at = i < factors
        miss[at] *= np.maximum(tied[at] - longer[at] - i, 0) / (tied[at] - i)
    return 1 - miss
