"""Cosines that are the same wherever in a matrix they stand."""

import numpy as np

_BLOCK_VALUES = 2**18
_BLOCK_ROWS = 256
_BLOCK_COLUMNS = 2048


def rounding_margin(dim: int) -> float:
    """How far a float32 product of unit rows may be from `exact_cosines`.

    A matrix product sums in an order of its own, which differs between its edges and
    its middle, so that two copies of a row can get cosines that differ in their last
    bits. Whatever the order, `dim` products sum up to within dim · 2⁻²⁴ of the truth
    where the rows have length one; a few roundings more are those of the rows.

    Reference:
        Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1.
    """
    return (dim + 8) * 2.0**-24


def exact_cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Gives the cosine of each row with the other row of the same number.

    The sum is made in float64, whose errors of some 1e-16 are lost when it is rounded.

    Args:
        rows: (n, dim) float32, of length one or zero.
        others: (n, dim) float32, of length one or zero.

    Returns:
        float32 (n,), nearest to the true ones.
    """
    return np.einsum("ij,ij->i", rows, others, dtype=np.float64).astype(np.float32)


def exact_cosines_at(
    rows: np.ndarray, others: np.ndarray, at: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Gives the `exact_cosines` of some pairs.

    Args:
        rows: (n, dim) float32, of length one or zero.
        others: (m, dim) float32, of length one or zero.
        at: numbers of rows and of others, (pairs,) each.

    Returns:
        float32 (pairs,).
    """
    first, second = at
    cosines = np.empty(len(first), np.float32)
    step = max(1, _BLOCK_VALUES // rows.shape[1])
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        cosines[part] = exact_cosines(rows[first[part]], others[second[part]])
    return cosines


def make_exact(cosines: np.ndarray, rows: np.ndarray, others: np.ndarray) -> None:
    """Overwrites a product with the `exact_cosines` of all pairs, −∞ left as it is.

    Args:
        cosines: (n, m) float32, −∞ where a pair is not to be compared.
        rows: (n, dim) float32, of length one or zero.
        others: (m, dim) float32, of length one or zero.
    """
    for first in range(0, len(others), _BLOCK_COLUMNS):
        columns = slice(first, first + _BLOCK_COLUMNS)
        wide = others[columns].T.astype(np.float64)
        for start in range(0, len(rows), _BLOCK_ROWS):
            part = cosines[start : start + _BLOCK_ROWS, columns]
            exact = rows[start : start + _BLOCK_ROWS].astype(np.float64) @ wide
            np.copyto(part, exact, casting="same_kind", where=part > -np.inf)
