"""The chance that an image of the query's class is among the K nearest."""

import numpy as np

from keras_dml._similarity import extremes


def hit_probability(
    above: np.ndarray, tied: np.ndarray, own: np.ndarray, k: int, ties: str
) -> np.ndarray:
    """Gives Recall@K of each query from the counts at its nearest image.

    Under "expected", it is the expectation over every order of the tied images. With a
    images nearer, and t others and p of the query's class tied, that is
    1 − C(t, K − a) / C(t + p, K − a) for K > a, and 0 otherwise.

    Args:
        above: int64 (n,) images of other classes nearer than the nearest of its class.
        tied: int64 (n,) images of other classes exactly as near as that one.
        own: int64 (n,) images of its class exactly as near as that one, which counts
            itself; 0 where the class has none.
        k: the rank K.
        ties: one of `TIES`.

    Returns:
        float64 (n,), in 0 … 1.
    """
    if ties != "expected":
        before = above + tied if ties == "worst" else above
        return ((before < k) & (own > 0)).astype(np.float64)
    # C(t, r) / C(t + p, r) is a product of min(p, r) fractions, symmetric in p and r;
    # no factorial, so nothing overflows. Where p = 0 it is an empty product.
    all_tied = tied + own
    places = k - above
    factors = np.minimum(own, places)
    longer = np.maximum(own, places)
    miss = np.ones(len(above))
    for i in range(max(0, factors.max())):
        at = i < factors
        miss[at] *= np.maximum(all_tied[at] - longer[at] - i, 0) / (all_tied[at] - i)
    return 1 - miss


def reciprocal_rank(
    above: np.ndarray, tied: np.ndarray, own: np.ndarray, ties: str
) -> np.ndarray:
    """Gives the reciprocal rank of each query from the counts at its nearest image.

    Under "expected", it is the expectation over every order of the tied images. With a
    images nearer, and t others and p of the query's class tied, the first of the p has
    rank a + x with chance p / (t + p − x + 1) · Π (t − i) / (t + p − i), over i from 0
    to x − 2.

    Args:
        above: as for `hit_probability`, as are `tied`, `own` and `ties`.
        tied: int64 (n,).
        own: int64 (n,).
        ties: one of `TIES`.

    Returns:
        float64 (n,), in 0 … 1; 0 where the class has no other image.
    """
    if ties != "expected":
        before = above + tied if ties == "worst" else above
        return np.where(own > 0, 1 / (before + 1), 0.0)
    # Few queries have ties, and those often the same ones.
    cases, case = np.unique([above, tied, own], axis=1, return_inverse=True)
    return np.array([_expected(*counts) for counts in cases.T.tolist()])[case.ravel()]


def _expected(above, tied, own):
    if not own:
        return 0.0
    before = np.arange(tied + 1)
    others_first = np.cumprod(
        np.append(1.0, (tied - before[:-1]) / (tied + own - before[:-1]))
    )
    chance = others_first * own / (tied + own - before)
    return float((chance / (above + before + 1)).sum())


def precision_at_r(
    own: np.ndarray,
    above: np.ndarray,
    tied: np.ndarray,
    relevant: np.ndarray,
    ties: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Gives R-precision and MAP@R of each query, as `ranking_metrics` defines them.

    Under "expected", images that are exactly as near as one another count as the
    expectation over every order. Let b images be nearer than t tied ones, a of the b
    and p of the t being of the query's class. Then the j-th place of the tie holds an
    image of its class with chance p / t, and if so the places before it hold
    (j − 1)(p − 1) / (t − 1) more of them on average, so that place adds

        p / t · (a + 1 + (j − 1)(p − 1) / (t − 1)) / (b + j)

    to the sum of MAP@R, and p / t to R times the R-precision. Over all places of the
    tie up to R, the fractions 1 / (b + j) add up to a difference of harmonic numbers.

    Args:
        own: (n, width), as `BlockCounts.places` gives it, as are `above`, `tied` and
            `relevant`.
        above: int64 (n, width).
        tied: int64 (n, width).
        relevant: int64 (n,), R.
        ties: one of `TIES`.

    Returns:
        float64 (n,) twice, in 0 … 1; 0 where the class has no other image.
    """
    width = own.shape[1]
    first = np.ones(own.shape, bool)
    first[:, 1:] = own[:, 1:] != own[:, :-1]
    starts = np.flatnonzero(first)
    sizes = np.diff(starts, append=own.size)
    lowest, _ = extremes(own.dtype)
    present = own.ravel()[starts] != lowest
    starts, p = starts[present], sizes[present]
    query, a = np.divmod(starts, width)
    others_nearer, others_tied = above.ravel()[starts], tied.ravel()[starts]
    r = relevant[query]
    if ties != "expected":
        # As if the tied images of the class came one after another, none of another.
        others_nearer = others_nearer + (others_tied if ties == "worst" else 0)
        others_tied = 0

    t = p + others_tied
    b = a + others_nearer
    reached = np.clip(r - b, 0, t)
    harmonic = np.append(0, np.cumsum(1 / np.arange(1, relevant.max(initial=1) + 1)))
    low = np.minimum(b, r)
    fractions = harmonic[low + reached] - harmonic[low]
    more = (p - 1) / np.maximum(t - 1, 1)
    hits = p / t * reached
    precisions = p / t * ((a + 1) * fractions + more * (reached - (b + 1) * fractions))
    sums = [
        np.bincount(query, added, minlength=len(own)) for added in (hits, precisions)
    ]
    # Rounding can carry a sum past R.
    return tuple(np.minimum(total / np.maximum(relevant, 1), 1) for total in sums)
