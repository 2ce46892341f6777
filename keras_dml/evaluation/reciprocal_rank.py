"""One over the rank of the nearest image of the query's class."""

import numpy as np


def reciprocal_rank(
    above: np.ndarray, tied: np.ndarray, own: np.ndarray, ties: str
) -> np.ndarray:
    """Gives the reciprocal rank of each query from the counts at its nearest image.

    Under "expected", it is the expectation over every order of the tied images. With a
    images nearer, and t others and p of the query's class tied, the first of the p has
    rank a + x with chance p / (t + p − x + 1) · Π (t − i) / (t + p − i), over i from 0
    to x − 2.

    Args:
        above: as for `found_within`, as are `tied`, `own` and `ties`.
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
