"""The chance that an image of the query's class is among the K nearest."""

import numpy as np


def found_within(
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
