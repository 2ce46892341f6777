"""Whether two images are of one class: accept rates, and the threshold for them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_integer
from keras_dml._checks import checked_pair
from keras_dml._checks import checked_rates
from keras_dml.evaluation._labels import pair_classes
from keras_dml.evaluation._labels import pair_ids
from keras_dml.evaluation._ranking.pair_counts import count_pairs
from keras_dml.evaluation._ranking.pairs import Pairs
from keras_dml.evaluation._ranking.resampling import resampled_cutoffs
from keras_dml.evaluation._ranking.roc import area_under_curve
from keras_dml.evaluation._ranking.roc import equal_error_rate

_RESAMPLES = 1000
_INTERVAL = (0.025, 0.975)


def verification(
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery: npt.ArrayLike | None = None,
    gallery_labels: npt.ArrayLike | None = None,
    *,
    false_accept_rates: Sequence[float] = (0.0001, 0.001, 0.01),
    seed: int = 0,
    query_ids: npt.ArrayLike | None = None,
    gallery_ids: npt.ArrayLike | None = None,
) -> dict[str, float]:
    """Measures how well one threshold tells pairs of one class from all other pairs.

    Recall@K ranks the images of each query apart. Who serves a model also has to say
    "none of these", with one threshold for all queries: a pair is accepted if its
    cosine is at least the threshold, or its Hamming distance at most. The *false accept
    rate* is the share of the pairs of two classes that are accepted, the *true accept
    rate* that of the pairs of one class. For each false accept rate asked for, the
    threshold is the lowest cosine, or highest distance, that keeps to it.

    All pairs of a query and a gallery image are compared, or each two queries once.
    Figures are those of scikit-learn's `roc_curve` with `drop_intermediate=False`; ties
    count in it as one step, and so one half in `roc_auc_score`. Cosines are those of
    the rows scaled to length one in float32, summed in float64 and rounded to float32,
    and none is taken as a sample of others: accept rates, thresholds, the share of
    unknown queries and, of up to 2^20 (1,048,576) pairs of one class, equal error rate
    and area are exact. Of more pairs of one class, those two take cosines for tied that
    lie between the same two of some 2^17 random ones of them, which is 1e-4 at worst
    and far less in practice. Codes are always exact.

    The interval of a threshold is the 95 % percentile interval of 1,000 bootstrap
    resamples of the classes (not of pairs or images, which are not independent): each
    draws as many classes as there are, with replacement, with all their images; two
    copies of a class are one class. It says how far the threshold might be another with
    other classes of the same kind. Where more than some 16,000 false accepts are
    allowed, it is made from a random part, about 2^16, of the negatives near the
    threshold, and no resample goes below four times the rate.

    Takes two to three times as long as `recall_at_k` of tens of thousands of images,
    and a few seconds for the intervals of fewer, in memory for a few tiles and some
    30 MB.

    Args:
        queries: (n, dim) float16, bfloat16, float32 or float64, compared by cosine (a
            zero row has cosine 0 with everything), or (n, bytes) uint8 packed codes, as
            `binary_codes` gives them, compared by Hamming distance. A memory-mapped
            array is read a block at a time, and may be larger than memory.
        query_labels: (n,) integers of any size, or strings.
        gallery: (m, dim) or (m, bytes). None: the queries are compared with one
            another, and none with itself.
        gallery_labels: (m,); given exactly when `gallery` is.
        false_accept_rates: distinct, at least 0 and below 1; may be empty.
        seed: at least 0, of the resamples.
        query_ids: (n,) integers or strings. A gallery image with the id of the query is
            not compared with it, as when an image is on both sides.
        gallery_ids: (m,); given exactly when `query_ids` are.

    Returns:
        Python numbers that `json.dumps` takes. A figure at a false accept rate has the
        rate in its name, as Recall@K has its K, so that one rate's figures are the same
        whichever others were asked for:

        - "true_accept_rate@0.001": at the threshold, in 0 … 1.
        - "threshold@0.001": a cosine, or a Hamming distance in bits. Where a rate
          allows too few false accepts for any pair it may lie beyond all, as a cosine
          right above 1 or a distance of −1.
        - "threshold_low@0.001", "threshold_high@0.001": its interval.
        - "unknown_rejected@0.001": the share of the queries of unknown classes for
          which the threshold accepts no gallery image at all. A class is unknown if it
          has no (other) image in the gallery; left out if there are none.
        - "equal_error_rate": the false accept rate where as large a share of the pairs
          of one class is not accepted.
        - "roc_auc": the area under the curve of true over false accept rates: the
          chance that a pair of one class is more similar than one of two, ties being
          one half.
        - "positive_pairs", "negative_pairs", "unknown_queries": how many pairs are of
          one class and of two, and how many queries of unknown classes.

    Raises:
        ValueError: if embeddings are empty or not finite, the shapes, types, labels or
            ids do not fit together, an argument is out of range, or no two images are
            of one class or none of two.

    Example:
        >>> embeddings = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.3, 0.9], [0.5, 0.6]]
        >>> labels = ["cat", "cat", "dog", "dog", "cat"]
        >>> found = verification(embeddings, labels, false_accept_rates=(0.2,))
        >>> found["true_accept_rate@0.2"], round(found["threshold@0.2"], 3)
        (0.5, 0.768)
        >>> round(found["equal_error_rate"], 3), round(found["roc_auc"], 3)
        (0.333, 0.833)

    Reference:
        ISO/IEC 19795-1 for the rates; a threshold's unknown queries are its "open-set
        identification", where 1 − "unknown_rejected" is called the false positive
        identification rate.
        [Efron & Tibshirani, "An Introduction to the
        Bootstrap"](https://doi.org/10.1201/9780429246593), chapter 13, for the
        percentile interval.
    """
    rates = checked_rates(false_accept_rates, "false_accept_rates")
    seed = checked_integer(seed, "seed", 0)
    queries, gallery = checked_pair(queries, gallery)
    query_classes, gallery_classes = pair_classes(
        queries, query_labels, gallery, gallery_labels
    )
    same = pair_ids(queries, query_ids, gallery, gallery_ids)
    pairs = Pairs(queries, query_classes, gallery, gallery_classes, same)
    if not pairs.positives or not pairs.negatives:
        lacking = "one class" if not pairs.positives else "two classes"
        raise ValueError(
            f"query_labels must give some pairs of one class and some of two; there is "
            f"no pair of {lacking} to compare. Pass more images, or check the labels."
        )
    counted = count_pairs(pairs, rates, seed)
    resampled = resampled_cutoffs(pairs, counted.tails, rates, _RESAMPLES, seed)
    metrics: dict[str, float] = {}
    for i, rate in enumerate(rates):
        cutoffs = [counted.cutoffs[i], *_interval(resampled[i])]
        thresholds = pairs.as_shown(pairs.next_above(np.array(cutoffs, pairs.dtype)))
        metrics[f"true_accept_rate@{rate}"] = counted.accepted[i] / pairs.positives
        metrics[f"threshold@{rate}"] = thresholds[0]
        metrics[f"threshold_low@{rate}"] = min(thresholds[1:])
        metrics[f"threshold_high@{rate}"] = max(thresholds[1:])
        if len(counted.nearest):
            rejected = np.mean(counted.nearest <= counted.cutoffs[i])
            metrics[f"unknown_rejected@{rate}"] = float(rejected)
    curve = (
        counted.false_accepts / pairs.negatives,
        counted.true_accepts / pairs.positives,
    )
    return {
        **metrics,
        "equal_error_rate": equal_error_rate(*curve),
        "roc_auc": area_under_curve(*curve),
        "positive_pairs": pairs.positives,
        "negative_pairs": pairs.negatives,
        "unknown_queries": len(counted.nearest),
    }


def _interval(cutoffs):
    return np.quantile(cutoffs, _INTERVAL, method="inverted_cdf")
