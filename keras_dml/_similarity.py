"""Similarities of rows that do not depend on where in a matrix product a pair stands.

Exact ranking (`keras_dml.evaluation`) and exact search (`keras_dml.search`) compare
similarities with one another, so equal rows must be equally similar. A float32 matrix
product does not give that: it sums in another order at its edges than in its middle,
and two copies of a row get cosines that differ in their last bits. Hence:

1. `unit_rows` scales rows to length one, and `comparable_rows` also takes packed codes.
2. A `Tile` multiplies two blocks of rows and knows its `rounding_margin`, how far each
   value may be from the true cosine.
3. Where values are so close that the margin could decide, the caller asks the tile for
   the `exact_cosines`, summed in float64. Hamming distances are exact at once.

`nearest_rows` finds the k most similar rows that way. Similarity is the cosine, or
rises as the Hamming distance falls: greater is always nearer.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np

ROW_MULTIPLE = 64
"""`nearest_rows` searches a multiple of so many rows, padded by `comparable_rows`."""

# faiss compares codes a word at a time.
_WORD_BYTES = 8
# Values scaled at a time, and values of both rows of pairs multiplied at a time.
_SCALED_VALUES = 2**20
_EXACT_VALUES = 2**18
# The part of a product that `make_exact` computes at a time.
_EXACT_ROWS = 256
_EXACT_COLUMNS = 2048
# And the rows of a product that is exact from the start, which may take longer to set
# up: 5 % faster than with as few.
_EXACT_TILE_ROWS = 704
# From this share of a tile on, making all of it exact is faster than pair by pair.
_MANY = 1 / 32
_TILE_BYTES = 64 * 2**20


def row_scales(embeddings: np.ndarray) -> np.ndarray:
    """Finds the factors that scale each row to Euclidean length one.

    There are two. The first is a power of two, which is exact, and brings the row's
    largest value near 1, so that squaring neither overflows nor underflows, however
    long or short the row is. The second is one over the length that is left. Where the
    product of both is exact too, as for all but the longest and shortest rows, the
    product alone is returned.

    Args:
        embeddings: (n, dim) float16, bfloat16, float32 or float64, every value finite;
            read a block at a time.

    Returns:
        (1 or 2, n, 1) float32, or float64 for that type. The last factor of a zero row
        is 0.
    """
    rows, dim = embeddings.shape
    working_type = np.promote_types(embeddings.dtype, np.float32)
    exponent_limit = np.finfo(working_type).maxexp - 2
    scales = np.zeros((2, rows, 1), working_type)
    step = max(1, _SCALED_VALUES // dim)
    for start in range(0, rows, step):
        block = embeddings[start : start + step].astype(working_type)
        largest = np.maximum(block.max(axis=1), -block.min(axis=1))
        exponents = np.clip(np.frexp(largest)[1], -exponent_limit, exponent_limit)
        powers, inverses = scales[:, start : start + step, 0]
        powers[:] = np.ldexp(working_type.type(1), -exponents)
        block *= powers[:, np.newaxis]
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
        np.divide(1, lengths, out=inverses, where=lengths > 0)
    with np.errstate(over="ignore", under="ignore"):
        products = scales[:1] * scales[1:]
    return products if np.array_equal(products / scales[:1], scales[1:]) else scales


def unit_rows(
    embeddings: np.ndarray, row_multiple: int = 1, scales: np.ndarray | None = None
) -> np.ndarray:
    """Scales every row to Euclidean length one, in float32.

    Args:
        embeddings: (n, dim) float16, bfloat16, float32 or float64, every value
            finite.
        row_multiple: zero rows are added until the row count is a multiple of this.
        scales: (1 or 2, n, 1), their `row_scales` if those are known already.

    Returns:
        (n, dim) float32, with the added rows at the end. A zero row stays zero.
    """
    rows, dim = embeddings.shape
    first, *second = row_scales(embeddings) if scales is None else scales
    unit = np.empty((_rounded_up(rows, row_multiple), dim), np.float32)
    unit[rows:] = 0
    np.multiply(embeddings, first, out=unit[:rows], casting="same_kind")
    for factor in second:
        unit[:rows] *= factor
    return unit


def comparable_rows(
    rows: np.ndarray, row_multiple: int, scales: np.ndarray | None = None
) -> np.ndarray:
    """Prepares embeddings or packed codes for `similarities`.

    Args:
        rows: (n, dim) float, every value finite, or (n, bytes) uint8 packed codes.
        row_multiple: zero rows are added until the row count is a multiple of this.
        scales: (1 or 2, n, 1), the `row_scales` of embeddings if those are known.

    Returns:
        Embeddings: float32 (n, dim) rows of length one. Codes: uint8 (n, bytes), padded
        to whole words, if faiss is installed; otherwise float32 (n, bits) of ±1. The
        added rows are at the end, and 0.
    """
    if rows.dtype != np.uint8:
        return unit_rows(rows, row_multiple, scales)
    count = _rounded_up(len(rows), row_multiple)
    if importlib.util.find_spec("faiss"):
        width = _rounded_up(rows.shape[1], _WORD_BYTES)
        codes = np.zeros((count, width), np.uint8)
        codes[: len(rows), : rows.shape[1]] = rows
        return codes
    signs = np.zeros((count, 8 * rows.shape[1]), np.float32)
    signs[: len(rows)] = np.unpackbits(rows, axis=1)
    signs[: len(rows)] *= 2
    signs[: len(rows)] -= 1
    return signs


def _rounded_up(number, multiple):
    return -(-number // multiple) * multiple


def similarities(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compares each of the rows with each of the others, both by `comparable_rows`.

    Returns:
        (n, m), greater where two are nearer: float32 cosines; of codes, int32 counts of
        equal bits, or float32 counts of equal bits minus those that differ.
    """
    if rows.dtype != np.uint8:
        return rows @ others.T
    faiss: Any = importlib.import_module("faiss")
    equal = np.empty((len(rows), len(others)), np.int32)
    faiss.hammings(
        *map(faiss.swig_ptr, (rows, others)),
        len(rows),
        len(others),
        rows.shape[1],
        faiss.swig_ptr(equal),
    )
    return np.subtract(8 * rows.shape[1], equal, out=equal)


def exact_similarities(
    rows: np.ndarray, others: np.ndarray, are_codes: bool
) -> np.ndarray:
    """Compares as `similarities` does, but cosines are the `exact_cosines` at once.

    That takes about twice as long for embeddings, and pays off where nearly every
    value has to be exact. Codes are exact anyway.

    Args:
        rows: (n, width), as `comparable_rows` makes them.
        others: (m, width), made likewise.
        are_codes: whether the rows are packed codes.

    Returns:
        (n, m), of the type that `similarities` gives.
    """
    if are_codes:
        return similarities(rows, others)
    wide = others.T.astype(np.float64)
    cosines = np.empty((len(rows), len(others)), np.float32)
    for start in range(0, len(rows), _EXACT_TILE_ROWS):
        part = slice(start, start + _EXACT_TILE_ROWS)
        cosines[part] = rows[part].astype(np.float64) @ wide
    return cosines


def paired_similarities(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compares each row with the other row of the same number, exactly.

    Args:
        rows: (n, width), as `comparable_rows` makes them.
        others: (n, width), made likewise.

    Returns:
        (n,), of the type that `similarities` gives.
    """
    if rows.dtype != np.uint8:
        return exact_cosines(rows, others)
    different = np.unpackbits(rows ^ others, axis=1).sum(axis=1, dtype=np.int32)
    return 8 * rows.shape[1] - different


def extremes(dtype: np.dtype) -> tuple[float, float]:
    """Gives one value below and one above all that `similarities` gives in a dtype."""
    if dtype == np.float32:
        return -np.inf, np.inf
    return -1, np.iinfo(np.int32).max


def nearness(values: np.ndarray, rows: np.ndarray, are_codes: bool) -> np.ndarray:
    """Gives cosines, or minus the Hamming distances, of `similarities`.

    Args:
        values: of any shape, as `similarities` gives them.
        rows: (n, width), as `comparable_rows` makes them; those compared are as wide.
        are_codes: whether the rows are packed codes.

    Returns:
        float32, of the same shape.
    """
    if not are_codes:
        return values
    if rows.dtype == np.uint8:  # equal bits
        return (values - 8 * rows.shape[1]).astype(np.float32)
    near = values - rows.shape[1]  # equal bits minus different ones
    near /= 2
    return near


def similarities_at(near: np.ndarray, rows: np.ndarray, are_codes: bool) -> np.ndarray:
    """Gives what `similarities` gives where `nearness` is this, each of it finite."""
    if not are_codes:
        return near
    if rows.dtype == np.uint8:
        return near.astype(np.int32) + np.int32(8 * rows.shape[1])
    return 2 * near + np.float32(rows.shape[1])


def ordered_integers(values: np.ndarray) -> np.ndarray:
    """Gives int64 integers in the order of float32 numbers; neighbors differ by 1.

    Numbers of one sign are in the order of their bits. Adding 0 turns −0 to 0.
    """
    bits = (values + np.float32(0)).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def ordered_floats(integers: np.ndarray) -> np.ndarray:
    """Gives the float32 numbers that `ordered_integers` makes these integers of."""
    bits = np.where(integers < 0, -integers | 0x80000000, integers)
    return bits.astype(np.uint32).view(np.float32)


def rounding_margin(dim: int) -> float:
    """Bounds how far a float32 product of unit rows may be from `exact_cosines`.

    In whatever order they are added, `dim` products sum up to within dim · 2⁻²⁴ of the
    truth where the rows have length one; a few roundings more are those of the rows.

    Reference:
        Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1.
    """
    return (dim + 8) * 2.0**-24


def exact_cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Gives the cosine of each row with the other row of the same number.

    The sum is made in float64, whose errors of some 1e-16 vanish when it is rounded.

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
    step = max(1, _EXACT_VALUES // rows.shape[1])
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
    for first in range(0, len(others), _EXACT_COLUMNS):
        columns = slice(first, first + _EXACT_COLUMNS)
        wide = others[columns].T.astype(np.float64)
        for start in range(0, len(rows), _EXACT_ROWS):
            part = cosines[start : start + _EXACT_ROWS, columns]
            exact = rows[start : start + _EXACT_ROWS].astype(np.float64) @ wide
            np.copyto(part, exact, casting="same_kind", where=part > -np.inf)


class Tile:
    """Similarities of two blocks of rows, within a known margin of the exact ones.

    Args:
        rows: (n, width), as `comparable_rows` makes them.
        others: (m, width), made likewise.
        are_codes: whether the rows are packed codes, whose similarities are exact.

    Attributes:
        values: (n, m), as `similarities` gives them. The caller may overwrite pairs
            that are not to be compared with the lowest of `extremes`.
        margin: how far each value may be from the exact one; 0 if they are exact.
    """

    def __init__(self, rows: np.ndarray, others: np.ndarray, are_codes: bool):
        self._rows, self._others = rows, others
        self.values = similarities(rows, others)
        self.margin: float = 0 if are_codes else rounding_margin(rows.shape[1])

    @property
    def T(self) -> Tile:  # noqa: N802
        """The transposed tile: the others compared with the rows."""
        transposed = object.__new__(Tile)
        transposed._rows, transposed._others = self._others, self._rows
        transposed.values, transposed.margin = self.values.T, self.margin
        return transposed

    def is_many(self, pairs: int) -> bool:
        """Whether `make_exact` is faster than `exact_at` for so many pairs."""
        return pairs > _MANY * self.values.size

    def exact_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Gives the exact values of some pairs, (pairs,)."""
        if not self.margin:
            return self.values[rows, columns]
        return exact_cosines_at(self._rows, self._others, (rows, columns))

    def make_exact(self) -> None:
        """Makes all values exact, except those overwritten with −∞."""
        if self.margin:
            make_exact(self.values, self._rows, self._others)
            self.margin = 0


def nearest_rows(
    rows: np.ndarray, others: np.ndarray, count: int, k: int, are_codes: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Finds, for each of the rows, the k others most similar to it.

    Of equally similar ones the lower number comes first. Cosines within the margin of
    the k-th highest are replaced by the `exact_cosines`, so that equal rows tie. Beside
    the result it takes 64 MiB for similarities, or those of one row if that is more.

    Args:
        rows: (n, width), as `comparable_rows` makes them.
        others: (m, width), made likewise, m a multiple of `ROW_MULTIPLE`.
        count: how many of the others come before the padding, at least k.
        k: how many to find, at least 1.
        are_codes: whether the rows are packed codes.

    Returns:
        int64 (n, k) numbers of the others, and float32 (n, k) similarities: the
        cosine, or minus the Hamming distance; best first.
    """
    found = np.empty((len(rows), k), np.int64)
    found_nearness = np.empty((len(rows), k), np.float32)
    step = max(1, _TILE_BYTES // (4 * len(others)))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        tile = Tile(rows[part], others, are_codes)
        if are_codes:
            tile.values = nearness(tile.values, rows, are_codes)
        tile.values[:, count:] = -np.inf
        _make_highest_exact(tile, k, count)
        found[part] = _highest_columns(tile.values, k, count)
        found_nearness[part] = np.take_along_axis(tile.values, found[part], 1)
    return found, found_nearness


def _make_highest_exact(tile, k, count):
    """Makes those values exact that may be among the k highest of their row."""
    if not tile.margin:
        return
    bounds = _bounds_of_highest(tile.values, k, count) - 2 * tile.margin
    reached = tile.values >= bounds[:, np.newaxis]
    if tile.is_many(np.count_nonzero(reached)):
        tile.make_exact()
        return
    at = np.nonzero(reached)
    tile.values[at] = tile.exact_at(*at)


def _highest_columns(values, k, count):
    if k == 1:
        return values.argmax(axis=1)[:, np.newaxis]
    columns = np.empty((len(values), k), np.int64)
    bounds = _bounds_of_highest(values, k, count)
    for row, similarity in enumerate(values):
        # Every column that reaches the bound: partitioning the columns themselves
        # would choose among tied ones at random.
        reached = np.flatnonzero(similarity >= bounds[row])
        order = np.argsort(-similarity[reached], kind="stable")
        columns[row] = reached[order[:k]]
    return columns


def _bounds_of_highest(values, k, count):
    """Gives each row a value that its k highest reach, and few others do."""
    if k == 1:
        return values.max(axis=1)
    groups = values.shape[1] // ROW_MULTIPLE
    if k > groups:
        return np.array([np.partition(row[:count], -k)[-k] for row in values])
    # Each of the k best groups has a value as high as its maximum, so the k-th highest
    # maximum is no higher than the k-th highest value.
    maxima = values.reshape(len(values), ROW_MULTIPLE, groups).max(axis=1)
    return np.partition(maxima, groups - k, axis=1)[:, groups - k]
