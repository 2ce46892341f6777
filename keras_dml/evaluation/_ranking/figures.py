"""From counts to figures: Recall@K, reciprocal rank, R-precision and MAP@R of a query.

Here it is decided what ties are worth. Images that are exactly as near as one another,
which is common among short binary codes, have no rank of their own; under "expected"
each figure is its expectation over every order of them.
"""

import numpy as np

from keras_dml._similarity import extremes

TIES = ("expected", "worst", "best")
"""How images exactly as near as one another may be ranked: in every order, or negatives
first, or positives first."""

# Positives whose precision is computed at once: each takes some 150 bytes then.
_PIECE = 2**16


def hit_probability(
    negatives_above: np.ndarray,
    negatives_tied: np.ndarray,
    positives_tied: np.ndarray,
    k: int,
    ties: str,
) -> np.ndarray:
    """Gives Recall@K of each query from the counts at its best positive.

    Under "expected" it is the chance that a positive is among the first K, over every
    order of the tied images. With a negatives nearer, and t negatives and p positives
    tied, that is 1 − C(t, K − a) / C(t + p, K − a) for K > a, and 0 otherwise.

    Args:
        negatives_above: int64 (n,), as `BlockCounts` has it, as have the next two.
        negatives_tied: int64 (n,).
        positives_tied: int64 (n,), the best one included; 0 if there are none.
        k: the rank K.
        ties: one of `TIES`.

    Returns:
        float64 (n,), in 0 … 1.
    """
    if ties != "expected":
        before = negatives_above + (negatives_tied if ties == "worst" else 0)
        return ((before < k) & (positives_tied > 0)).astype(np.float64)
    # C(t, r) / C(t + p, r) is a product of min(p, r) fractions, symmetric in p and r;
    # no factorial, so nothing overflows. Where p = 0 it is an empty product.
    all_tied = negatives_tied + positives_tied
    places = k - negatives_above
    factors = np.minimum(positives_tied, places)
    longer = np.maximum(positives_tied, places)
    miss = np.ones(len(negatives_above))
    for i in range(max(0, factors.max())):
        at = i < factors
        miss[at] *= np.maximum(all_tied[at] - longer[at] - i, 0) / (all_tied[at] - i)
    return 1 - miss


def reciprocal_rank(
    negatives_above: np.ndarray,
    negatives_tied: np.ndarray,
    positives_tied: np.ndarray,
    ties: str,
) -> np.ndarray:
    """Gives 1 / rank of the best positive of each query.

    Under "expected" it is the expectation over every order of the tied images. With a
    negatives nearer, and t negatives and p positives tied, the first of the p has rank
    a + x with chance p / (t + p − x + 1) · Π (t − i) / (t + p − i), over i from 0 to
    x − 2.

    Args:
        negatives_above: int64 (n,), as for `hit_probability`, as are the next two.
        negatives_tied: int64 (n,).
        positives_tied: int64 (n,).
        ties: one of `TIES`.

    Returns:
        float64 (n,), in 0 … 1; 0 for a query without positives.
    """
    if ties != "expected":
        before = negatives_above + (negatives_tied if ties == "worst" else 0)
        return np.where(positives_tied > 0, 1 / (before + 1), 0.0)
    # Few queries have ties, and those often the same ones.
    counts = [negatives_above, negatives_tied, positives_tied]
    cases, case = np.unique(counts, axis=1, return_inverse=True)
    expected = np.array([_expected_reciprocal(*counts) for counts in cases.T.tolist()])
    return expected[case.ravel()]


def _expected_reciprocal(negatives_above, negatives_tied, positives_tied):
    if not positives_tied:
        return 0.0
    before = np.arange(negatives_tied + 1)
    left = negatives_tied + positives_tied - before
    negatives_first = np.cumprod(
        np.append(1.0, (negatives_tied - before[:-1]) / left[:-1])
    )
    chance = negatives_first * positives_tied / left
    return float((chance / (negatives_above + before + 1)).sum())


def precision_at_r(
    positives: np.ndarray,
    negatives_above: np.ndarray,
    negatives_tied: np.ndarray,
    num_positives: np.ndarray,
    ties: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Gives R-precision and MAP@R of each query, as `ranking_metrics` defines them.

    Under "expected", images that are exactly as near as one another count as the
    expectation over every order. Let b images be nearer than t tied ones, a of the b
    and p of the t being positives. Then the j-th place of the tie holds a positive with
    chance p / t, and if so the places before it hold (j − 1)(p − 1) / (t − 1) more of
    them on average, so that place adds

        p / t · (a + 1 + (j − 1)(p − 1) / (t − 1)) / (b + j)

    to the sum of MAP@R, and p / t to R times the R-precision. Over all places of the
    tie up to R, the fractions 1 / (b + j) add up to a difference of harmonic numbers.

    Args:
        positives: (n, width), similarities as `BlockCounts.positives` gives them, as it
            gives the next three.
        negatives_above: int32 (n, width).
        negatives_tied: int32 (n, width).
        num_positives: int64 (n,), R.
        ties: one of `TIES`.

    Returns:
        float64 (n,) twice, in 0 … 1; 0 for a query without positives.
    """
    step = max(1, _PIECE // positives.shape[1])
    figures = [
        _precision_at_r(
            positives[rows],
            negatives_above[rows],
            negatives_tied[rows],
            num_positives[rows],
            ties,
        )
        for start in range(0, len(positives), step)
        for rows in [slice(start, start + step)]
    ]
    r_precision, map_at_r = np.concatenate(figures, axis=1)
    return r_precision, map_at_r


def _precision_at_r(positives, negatives_above, negatives_tied, num_positives, ties):
    width = positives.shape[1]
    first = np.ones(positives.shape, bool)
    first[:, 1:] = positives[:, 1:] != positives[:, :-1]
    starts = np.flatnonzero(first)
    sizes = np.diff(starts, append=positives.size)
    lowest, _ = extremes(positives.dtype)
    present = positives.ravel()[starts] != lowest
    starts, p = starts[present], sizes[present]
    query, a = np.divmod(starts, width)
    above, tied = negatives_above.ravel()[starts], negatives_tied.ravel()[starts]
    r = num_positives[query]
    if ties != "expected":
        # As if all tied negatives came before the tied positives, or all after them.
        above = above + (tied if ties == "worst" else 0)
        tied = 0

    t = p + tied
    b = a + above
    reached = np.clip(r - b, 0, t)
    harmonic = np.append(
        0, np.cumsum(1 / np.arange(1, num_positives.max(initial=1) + 1))
    )
    low = np.minimum(b, r)
    fractions = harmonic[low + reached] - harmonic[low]
    more = (p - 1) / np.maximum(t - 1, 1)
    hits = p / t * reached
    precisions = p / t * ((a + 1) * fractions + more * (reached - (b + 1) * fractions))
    return tuple(
        # Rounding can carry a sum past R.
        np.minimum(
            np.bincount(query, added, minlength=len(positives))
            / np.maximum(num_positives, 1),
            1,
        )
        for added in (hits, precisions)
    )
