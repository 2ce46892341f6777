"""Every figure that a ranking of the whole gallery gives, exact."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_choice
from keras_dml._checks import checked_ks
from keras_dml._checks import checked_pair
from keras_dml.evaluation._labels import checked_labels
from keras_dml.evaluation._labels import pair_classes
from keras_dml.evaluation._labels import pair_ids
from keras_dml.evaluation._ranking.counting import rank_counts
from keras_dml.evaluation._ranking.figures import TIES
from keras_dml.evaluation._ranking.figures import hit_probability
from keras_dml.evaluation._ranking.figures import precision_at_r
from keras_dml.evaluation._ranking.figures import reciprocal_rank


def ranking_metrics(
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery: npt.ArrayLike | None = None,
    gallery_labels: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 2, 4, 8),
    ties: str = "expected",
    query_ids: npt.ArrayLike | None = None,
    gallery_ids: npt.ArrayLike | None = None,
) -> dict[str, dict]:
    """Measures Recall@K, MRR, R-precision and MAP@R in one pass, over all and by class.

    - Recall@K is the share of queries with an image of their class among the K nearest.
    - MRR, the mean reciprocal rank, is the mean of 1 / rank of the nearest image of the
      query's class, however far away.
    - With R the number of gallery images of the query's class, and P(i) the share of
      its class among the i nearest, R-precision = P(R), and
      MAP@R = 1/R · Σ P(i), over those i in 1 … R whose image is of its class.

    Each is the mean over all queries. Recall@K is content with one image found;
    R-precision and MAP@R are 1 only where all R come first, and MAP@R also asks in
    which places they stand. Recall@K is not a precision: pytorch-metric-learning's
    "precision_at_1" is Recall@1, but its precision at larger K is another figure.

    A query whose class has no (other) image in the gallery is a miss: it counts 0 in
    all four. "lone_queries" says how many those are. pytorch-metric-learning leaves
    them out, so that its mean is this one times queries / (queries − lone_queries).

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
        ks: the ranks K, distinct and at least 1. K beyond the size of the gallery gives
            the recall over all of it.
        ties: how images exactly as near as one another are ranked, which short binary
            codes often are: "expected" is the expectation over every order of them,
            "worst" puts images of other classes first, and "best" last.
        query_ids: (n,) integers or strings. A gallery image with the id of the query is
            not compared with it, as when an image is on both sides.
        gallery_ids: (m,); given exactly when `query_ids` are.

    Returns:
        Shares in 0 … 1 and counts, over all queries and by their class, the labels
        being the keys, in rising order:

            {"all": {"recall@1": 0.65, ..., "mrr": 0.7, "r_precision": 0.35,
                     "map@r": 0.25, "queries": 5924, "lone_queries": 0},
             "classes": {101: {"recall@1": 0.8, ...}, ...}}

    Raises:
        ValueError: if embeddings are empty or not finite, the shapes, types, labels or
            ids do not fit together, or ks or ties are out of range.

    Example:
        >>> embeddings = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.6]]
        >>> metrics = ranking_metrics(embeddings, ["cat", "cat", "dog", "cat"], ks=(1,))
        >>> {name: round(value, 3) for name, value in metrics["all"].items()}
        ... # doctest: +NORMALIZE_WHITESPACE
        {'recall@1': 0.5, 'mrr': 0.625, 'r_precision': 0.625, 'map@r': 0.562,
         'queries': 4, 'lone_queries': 1}

    Reference:
        [Musgrave, Belongie & Lim, "A Metric Learning Reality
        Check"](https://arxiv.org/abs/2003.08505), section 3.2, for R-precision and
        MAP@R.
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
        return [
            *(hit_probability(*at_best, min(k, most), ties) for k in ks),
            reciprocal_rank(*at_best, ties),
            *precision_at_r(*counts.positives(), ties),
            np.ones(len(counts.positives_tied)),
            counts.positives_tied == 0,
        ]

    figures = rank_counts(
        queries, query_classes, gallery, gallery_classes, measure, True, same
    )
    names = [f"recall@{k}" for k in ks]
    names += ["mrr", "r_precision", "map@r", "queries", "lone_queries"]
    _, rows, classes = np.unique(query_classes, return_index=True, return_inverse=True)
    labels = checked_labels(query_labels, "query_labels", len(queries))[rows]
    by_class = np.array([np.bincount(classes, figure) for figure in figures])
    return {
        "all": _means(names, by_class.sum(axis=1)),
        "classes": {
            label: _means(names, sums)
            for label, sums in zip(labels.tolist(), by_class.T, strict=True)
        },
    }


def _means(names, sums):
    *sums, queries, lone = sums.tolist()
    means = [value / queries for value in sums]
    return dict(zip(names, [*means, int(queries), int(lone)], strict=True))
