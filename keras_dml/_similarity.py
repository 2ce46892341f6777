"""Rows scaled to length one."""

import importlib.util

import numpy as np

_SCALED_VALUES = 2**20


def row_scales(embeddings: np.ndarray) -> np.ndarray:
    """Finds the factors that make each row one of Euclidean length one.

    There are two. The first is a power of two, which is exact, and brings the row's
    largest value near 1, so that no row, however long or short, overflows or vanishes
    when it is squared. Where the product of both is exact too, as for all but the
    longest and shortest rows, it stands for them.

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
    unit = np.empty((-(-rows // row_multiple) * row_multiple, dim), np.float32)
    unit[rows:] = 0
    np.multiply(embeddings, first, out=unit[:rows], casting="same_kind")
    for factor in second:
        unit[:rows] *= factor
    return unit


_WORD_BYTES = 8


def comparable_rows(
    rows: np.ndarray, row_multiple: int, scales: np.ndarray | None = None
) -> np.ndarray:
    """Makes embeddings or packed codes ready for `similarities`.

    Args:
        rows: (n, dim) float, every value finite, or (n, bytes) uint8 packed codes.
        row_multiple: zero rows are added until the row count is a multiple of this.
        scales: (1 or 2, n, 1), the `row_scales` of embeddings if those are known.

    Returns:
        float32 (n, dim) rows of length one. Of codes, uint8 (n, bytes) if faiss is
        installed, filled up to whole words; otherwise float32 (n, bits) of ±1. The
        added rows are at the end, and 0.
    """
    if rows.dtype != np.uint8:
        return unit_rows(rows, row_multiple, scales)
    count = -(-len(rows) // row_multiple) * row_multiple
    if importlib.util.find_spec("faiss"):
        codes = np.zeros((count, -(-rows.shape[1] // _WORD_BYTES) * _WORD_BYTES), "u1")
        codes[: len(rows), : rows.shape[1]] = rows
        return codes
    signs = np.zeros((count, 8 * rows.shape[1]), np.float32)
    signs[: len(rows)] = np.unpackbits(rows, axis=1)
    signs[: len(rows)] *= 2
    signs[: len(rows)] -= 1
    return signs


def similarities(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compares each of the rows with each of the others, which `comparable_rows` made.

    Returns:
        (n, m), greater where two are nearer: float32 cosines; of codes, int32 counts of
        equal bits, or float32 counts of equal bits less those that differ.
    """
    if rows.dtype != np.uint8:
        return rows @ others.T
    import faiss

    equal = np.empty((len(rows), len(others)), np.int32)
    faiss.hammings(
        *map(faiss.swig_ptr, (rows, others)),
        len(rows),
        len(others),
        rows.shape[1],
        faiss.swig_ptr(equal),
    )
    return np.subtract(8 * rows.shape[1], equal, out=equal)


def extremes(dtype: np.dtype) -> tuple[float, float]:
    """A similarity below and one above all that `similarities` gives in a dtype."""
    if dtype == np.float32:
        return -np.inf, np.inf
    return -1, np.iinfo(np.int32).max


_EXACT_VALUES = 2**18
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
    for first in range(0, len(others), _BLOCK_COLUMNS):
        columns = slice(first, first + _BLOCK_COLUMNS)
        wide = others[columns].T.astype(np.float64)
        for start in range(0, len(rows), _BLOCK_ROWS):
            part = cosines[start : start + _BLOCK_ROWS, columns]
            exact = rows[start : start + _BLOCK_ROWS].astype(np.float64) @ wide
            np.copyto(part, exact, casting="same_kind", where=part > -np.inf)


# From this share of a tile on, making all of it exact is the faster.
_MANY = 1 / 32


class Tile:
    """Similarities, from one product that may be off by its roundings, or exact.

    Args:
        rows: (n, width), as `comparable_rows` makes them.
        others: (m, width), made likewise.
        exact: whether the rows are codes, whose products are whole numbers and exact.

    Attributes:
        values: (n, m), as `similarities` gives them; may be overwritten where pairs
            are not to be compared.
        margin: how far each value may be from the exact one; 0 if they are exact.
    """

    def __init__(self, rows: np.ndarray, others: np.ndarray, exact: bool):
        """Multiplies; the class docstring has the arguments."""
        self._rows, self._others = rows, others
        self.values = similarities(rows, others)
        self.margin = 0 if exact else rounding_margin(rows.shape[1])

    @property
    def T(self) -> "Tile":  # noqa: N802
        """The same, seen from the others."""
        turned = object.__new__(Tile)
        turned._rows, turned._others = self._others, self._rows
        turned.values, turned.margin = self.values.T, self.margin
        return turned

    def is_many(self, pairs: int) -> bool:
        """Whether so many pairs are more work for `exact_at` than `make_exact` is."""
        return pairs > _MANY * self.values.size

    def exact_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The exact values of some pairs, (pairs,)."""
        if not self.margin:
            return self.values[rows, columns]
        return exact_cosines_at(self._rows, self._others, (rows, columns))

    def make_exact(self) -> None:
        """Makes all values exact, those aside that have been overwritten with −∞."""
        if self.margin:
            make_exact(self.values, self._rows, self._others)
            self.margin = 0


ROW_MULTIPLE = 64
"""Rows to search in come in a multiple of this, filled up by `comparable_rows`."""

_TILE_BYTES = 64 * 2**20


def nearest_rows(
    rows: np.ndarray, others: np.ndarray, count: int, k: int, are_codes: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Finds, for each of the rows, the k others most similar to it.

    Of equally similar ones the first comes first. Cosines too near to the k-th highest
    to trust the order in which a matrix product summed them are `exact_cosines`, so
    that equal rows tie. Beside the result it takes 64 MiB for scores, or those of one
    row if that is more.

    Args:
        rows: (n, width), as `comparable_rows` makes them.
        others: (m, width), made likewise, m a multiple of `ROW_MULTIPLE`.
        count: how many of the others are not filling, at least k.
        k: how many to find, at least 1.
        are_codes: whether the rows are packed codes.

    Returns:
        int64 (n, k) numbers of the others, and float32 (n, k) similarities: the
        cosine, or minus the Hamming distance; best first.
    """
    found = np.empty((len(rows), k), np.int64)
    nearness = np.empty((len(rows), k), np.float32)
    step = max(1, _TILE_BYTES // (4 * len(others)))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        tile = Tile(rows[part], others, are_codes)
        if are_codes:
            tile.values = _minus_distances(tile.values, rows.shape[1])
        tile.values[:, count:] = -np.inf
        _make_first_exact(tile, k, count)
        found[part] = _first_columns(tile.values, k, count)
        nearness[part] = np.take_along_axis(tile.values, found[part], 1)
    return found, nearness


def _minus_distances(tile, width):
    if tile.dtype != np.float32:  # equal bits of so many
        return (tile - 8 * width).astype(np.float32)
    tile -= width  # equal bits less different ones
    tile /= 2
    return tile


def _make_first_exact(tile, k, count):
    """Makes those values exact that may be among the k highest of their row."""
    if not tile.margin:
        return
    bounds = _bounds(tile.values, k, count) - 2 * tile.margin
    reached = tile.values >= bounds[:, np.newaxis]
    if tile.is_many(np.count_nonzero(reached)):
        tile.make_exact()
        return
    at = np.nonzero(reached)
    tile.values[at] = tile.exact_at(*at)


def _bounds(tile, k, count):
    """For each row a value that k columns at least reach, and not many more."""
    if k == 1:
        return tile.max(axis=1)
    groups = tile.shape[1] // ROW_MULTIPLE
    if k > groups:
        return np.array([np.partition(scores[:count], -k)[-k] for scores in tile])
    # Each of the k best groups has a score as high as its maximum, so the k-th highest
    # maximum is no higher than the k-th highest score.
    maxima = tile.reshape(len(tile), ROW_MULTIPLE, groups).max(axis=1)
    return np.partition(maxima, groups - k, axis=1)[:, groups - k]


def _first_columns(tile, k, count):
    if k == 1:
        return tile.argmax(axis=1)[:, np.newaxis]
    columns = np.empty((len(tile), k), np.int64)
    bounds = _bounds(tile, k, count)
    for row, scores in enumerate(tile):
        # Every column that reaches the bound: partitioning the columns themselves
        # would choose among tied ones at random.
        reached = np.flatnonzero(scores >= bounds[row])
        columns[row] = reached[np.argsort(-scores[reached], kind="stable")[:k]]
    return columns
