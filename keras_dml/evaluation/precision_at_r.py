"""R-precision and MAP@R of a block of queries."""

import numpy as np

from keras_dml.evaluation.comparable_rows import extremes


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
