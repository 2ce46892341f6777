"""R-precision and MAP@R, exact."""

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.checked_embeddings import checked_pair
from keras_dml.evaluation.pair_classes import pair_classes
from keras_dml.evaluation.similarity_tiles import similarity_tiles


def precision_at_r(
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery: npt.ArrayLike | None = None,
    gallery_labels: npt.ArrayLike | None = None,
) -> dict[str, float]:
    """Gives R-precision and MAP@R, which look at all images of the query's class.

    With R the number of gallery images of the query's class, and P(i) the share of its
    class among the i nearest,

        R-precision = P(R),
        MAP@R = 1/R · Σ P(i), over those i in 1 … R whose image is of its class,

    each the mean over all queries. Recall@K is content with one image found; these are
    1 only where all R come first, and MAP@R also asks in which places they stand.

    Images that are exactly as near as one another, as often with binary codes, count
    as the expectation over every order. Let b images be nearer than t tied ones, a of
    the b and p of the t being of the query's class. Then the j-th place of the tie
    holds an image of its class with chance p / t, and if so the places before it hold
    (j − 1)(p − 1) / (t − 1) more of them on average, so that place adds

        p / t · (a + 1 + (j − 1)(p − 1) / (t − 1)) / (b + j)

    to the sum of MAP@R, and p / t to R times the R-precision.

    A query whose class has no other image counts 0, as it is a miss in `recall_at_k`,
    so that all figures are means over the same queries. pytorch-metric-learning leaves
    such queries out.

    Args:
        queries: (n, dim) float16, float32 or float64, compared by cosine (a zero row
            has cosine 0 with everything), or (n, bytes) uint8 packed codes, as
            `binary_codes` gives them, compared by Hamming distance.
        query_labels: (n,) integers of any size, or strings.
        gallery: (m, dim) or (m, bytes), the images to search. None: each query
            searches all the other queries, and is left out itself by its row.
        gallery_labels: (m,); given exactly when `gallery` is.

    Returns:
        {"r_precision": …, "map@r": …}, each in 0 … 1.

    Raises:
        ValueError: if embeddings are empty or not finite, or the shapes, types or
            labels do not fit together.

    Example:
        >>> embeddings = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.6]]
        >>> found = precision_at_r(embeddings, ["cat", "cat", "dog", "cat"])
        >>> {name: round(share, 3) for name, share in found.items()}
        {'r_precision': 0.625, 'map@r': 0.562}

    Reference:
        [Musgrave, Belongie & Lim, "A Metric Learning Reality
        Check"](https://arxiv.org/abs/2003.08505), section 3.2.
    """
    queries, gallery = checked_pair(queries, gallery)
    query_classes, gallery_classes = pair_classes(
        queries, query_labels, gallery, gallery_labels
    )
    relevant = np.bincount(gallery_classes, minlength=query_classes.max() + 1)
    relevant = relevant[query_classes] - (gallery is None)

    precision, mean_average = np.zeros((2, len(queries)))
    for start, tile in similarity_tiles(queries, gallery):
        for query, scores in enumerate(tile, start):
            if relevant[query]:
                nearest = _reached(scores, relevant[query])
                precision[query], mean_average[query] = _of_ranking(
                    scores[nearest],
                    gallery_classes[nearest] == query_classes[query],
                    relevant[query],
                )
    return {
        "r_precision": float(precision.mean()),
        "map@r": float(mean_average.mean()),
    }


def _reached(scores, r):
    """The r nearest images, nearest first, and all that are tied with the last one."""
    reached = np.flatnonzero(scores >= np.partition(scores, -r)[-r])
    return reached[np.argsort(-scores[reached])]


def _of_ranking(scores, own, r):
    """R-precision and MAP@R of one query.

    Args:
        scores: (s,) falling, s at least r.
        own: (s,) booleans, true where the image is of the query's class.
        r: images of that class in the gallery, at least 1.
    """
    starts = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
    tied = np.diff(starts, append=len(scores))
    tied_own = np.add.reduceat(own, starts, dtype=np.int64)
    own_before = np.cumsum(tied_own) - tied_own

    place = np.arange(r)
    tie = np.searchsorted(starts, place, side="right") - 1
    chance = (tied_own / tied)[tie]
    more = ((tied_own - 1) / np.maximum(tied - 1, 1))[tie] * (place - starts[tie])
    hits = chance * (own_before[tie] + 1 + more)
    return chance.sum() / r, (hits / (place + 1)).sum() / r
