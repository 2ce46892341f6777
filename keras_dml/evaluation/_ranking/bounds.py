"""Rules out most pairs of images by an upper bound of their cosine.

Let V have p orthonormal columns. Of unit rows x and y take the coordinates a = Vᵀx and
b = Vᵀy, and the lengths r and s of what is left, x − Va and y − Vb. What is left is
orthogonal to V, so by the inequality of Cauchy and Schwarz

    x·y = a·b + (x − Va)·(y − Vb) ≤ a·b + rs = [a, r]·[b, s],

a product of p + 1 numbers in place of all dimensions. A pair whose bound is below the
bars of both is below them itself; it is decided without its cosine. The bound holds
for any V, and is tight where V holds most of the rows' energy, as the leading
eigenvectors of their second moments do. They are found on a sample by the randomized
range finder of Halko, Martinsson & Tropp, https://arxiv.org/abs/0909.4061, algorithm
4.3. How large p is best, and whether any pays, is found on a sample as well: where
the spectrum is flat, as in isotropic noise, none is.

Coordinates are kept in float16, which moves a bound by at most 2⁻¹⁰, but for numbers
so small that they matter less; r is rounded up. The float32 product of p + 1 numbers
moves it by at most (p + 1) 2⁻²⁴.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

from keras_dml._similarity import exact_cosines_at
from keras_dml._similarity import rounding_margin
from keras_dml._similarity import unit_rows
from keras_dml.evaluation._ranking.blocks import ClassBlocks

# Pairs from which the search for V takes a small part of their product.
_LEAST_PAIRS = 2**31
# Rows, and queries, of the samples.
_SAMPLE = 2048
_QUERIES = 256
# p, as shares of the dimensions, from which one is chosen.
_SHARES = (1 / 16, 1 / 8, 3 / 16, 1 / 4, 5 / 16, 3 / 8)
# What takes as long as a multiplication in the product of two blocks: of the bound's
# product, 1 / 1.3; of comparing one bound with the bars, 1 / 75; and of the cosine of
# one pair that is left, 1 / 15 of a dimension.
_BOUND, _COMPARE, _PAIR = 1.3, 75, 15
# Share of the whole product's cost from which the whole product is made.
_MOST_COST = 0.9
# From this share of a block's pairs on, their product is faster than pair by pair.
_MANY = 1 / 16
# What float16 moves a bound by at most, and some more.
_SLACK = 2.0**-10 + 2.0**-14
_ROWS_AT_ONCE = 512


class Bounds:
    """Upper bounds of the cosines of two sets of blocks, and the pairs they leave.

    Args:
        queries: the blocks of queries.
        gallery: the blocks of the gallery, the same object where queries search one
            another.
        directions: (dim, p) float64, the orthonormal columns V.
    """

    def __init__(
        self, queries: ClassBlocks, gallery: ClassBlocks, directions: np.ndarray
    ):
        self._queries, self._gallery = queries, gallery
        self._query_rows = _coordinates(queries, directions)
        self._gallery_rows = self._query_rows
        if gallery is not queries:
            self._gallery_rows = _coordinates(gallery, directions)
        # Before there are workers, so that they find it limited to one thread each.
        importlib.import_module("faiss")
        # The product of faiss is of the rows as given.
        self.margin = rounding_margin(directions.shape[0] + 8)

    def rows(self, block: int) -> np.ndarray:
        """The coordinates of a block of queries, for `pairs`."""
        part = _span(self._queries, block)
        return self._query_rows[part].astype(np.float32)

    def pairs(
        self,
        rows: np.ndarray,
        block: int,
        other: int,
        bars: np.ndarray,
        other_bars: np.ndarray | None,
        hide: Callable[[np.ndarray, int, int], None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Callable] | None:
        """Finds the pairs of two blocks that may reach a bar, and their cosines.

        Args:
            rows: the coordinates of a block of queries.
            block: its number.
            other: number of a block of the gallery.
            bars: (side,) the lowest cosine that counts for each query.
            other_bars: (side,) the same of the other block, if it is of queries too.
            hide: overwrites the pairs of two blocks that are not compared.

        Returns:
            (rows, columns, cosines, exact): rows and columns of the blocks, and the
            cosines within `margin`; `exact` gives the exact ones of some of these
            pairs. None if there are so many that all cosines are better made.
        """
        queries, gallery = self._queries, self._gallery
        others = self._gallery_rows[_span(gallery, other)].astype(np.float32)
        values = rows @ others.T
        count, columns = values.shape
        if hide is not None:
            hide(values, block, other)
        slack = np.float32(_SLACK + rows.shape[1] * 2.0**-24)
        reached = values >= bars[:count, np.newaxis] - slack
        if other_bars is not None:
            reached |= values >= other_bars[:columns] - slack
        if np.count_nonzero(reached) > _MANY * reached.size:
            return None
        at = np.divmod(np.flatnonzero(reached), columns)
        numbers = queries.numbers(block)[at[0]], gallery.numbers(other)[at[1]]

        def exact(some):
            return _exact(queries, gallery, numbers[0][some], numbers[1][some])

        return (*at, _products(queries, gallery, *numbers), exact)


def find_bounds(
    queries: ClassBlocks,
    gallery: ClassBlocks,
    all_positives: bool,
    enough: int | None,
    bars: np.ndarray | None = None,
) -> Bounds | None:
    """Finds directions that make bounds tight, if there are any that pay.

    Args:
        queries: the blocks of queries.
        gallery: the blocks of the gallery, the same object where queries search one
            another.
        all_positives: whether the lowest positive is the bar, or the best one.
        enough: how many negatives above the bar are counted for a query, or None.
        bars: (queries,) cosines, −∞ without a positive; None to find those of a sample.

    Returns:
        The bounds, or None if the whole product is about as fast.
    """
    pairs = len(queries.order) * len(gallery.order)
    if pairs < _LEAST_PAIRS or not all(map(_has_products, (queries, gallery))):
        return None
    directions = _best_directions(queries, gallery, all_positives, enough, bars)
    return None if directions is None else Bounds(queries, gallery, directions)


def _best_directions(queries, gallery, all_positives, enough, bars):
    """The V that makes the work least, found on a sample, or None."""
    dim = queries.embeddings.shape[1]
    rng = np.random.default_rng(0)
    sample = np.sort(rng.permutation(len(gallery.order))[:_SAMPLE])
    rows = _unit(gallery, sample)
    directions = _leading_directions(rows, max(1, int(max(_SHARES) * dim)), rng)
    asked = np.sort(rng.permutation(len(queries.order))[:_QUERIES])
    asking = _unit(queries, asked)
    if bars is None:
        bars = _sampled_bars(queries, gallery, asked, asking, all_positives)
    else:
        bars = np.where(bars[asked] > -np.inf, bars[asked], np.inf)
    cosines = asking @ rows.T
    above = (cosines >= bars[:, np.newaxis]).mean(axis=1) * len(gallery.order)
    until_enough = np.minimum(1, (enough or np.inf) / np.maximum(above, 1))
    first, second = asking @ directions, rows @ directions
    costs = {}
    for share in _SHARES:
        p = max(1, int(share * dim))
        left, right = (
            np.sqrt(np.maximum(1 - np.square(one[:, :p]).sum(axis=1), 0))
            for one in (first, second)
        )
        bound = first[:, :p] @ second[:, :p].T + np.outer(left, right)
        reached = (bound >= bars[:, np.newaxis] - _SLACK).mean(axis=1)
        survivors = np.mean(reached * until_enough) * (1 + (queries is gallery))
        costs[p] = (_BOUND * (p + 1) + _COMPARE) / dim + _PAIR * survivors
    p = min(costs, key=costs.__getitem__)
    if costs[p] > _MOST_COST:
        return None
    # Found in float32, but orthonormal to float64, as the proof asks.
    directions, _ = np.linalg.qr(directions[:, :p].astype(np.float64))
    return directions


def _span(blocks, block):
    return slice(*blocks.cuts[block : block + 2])


def _has_products(blocks):
    """Whether faiss can multiply the rows as they are, near enough to unit rows."""
    rows, scales = blocks.embeddings, blocks.scales
    return (
        rows.dtype == np.float32
        and rows.flags.c_contiguous
        and len(scales) == 1
        and scales.max() < 2.0**30
        and scales[scales > 0].min(initial=1) > 2.0**-30
        and importlib.util.find_spec("faiss") is not None
    )


def _unit(blocks, numbers):
    return unit_rows(blocks.embeddings[numbers], 1, blocks.scales[:, numbers])


def _leading_directions(rows, count, rng):
    """About the leading eigenvectors of rowsᵀ rows, by falling eigenvalue."""
    found = rng.standard_normal((rows.shape[1], count), np.float32)
    for _ in range(2):
        found, _ = np.linalg.qr(rows.T @ (rows @ found))
    images = rows @ found
    _, order = np.linalg.eigh(images.T @ images)
    return found @ order[:, ::-1]


def _sampled_bars(queries, gallery, asked, asking, all_positives):
    """About the bar of some queries; infinite without a positive."""
    position = np.empty(len(queries.order), np.int64)
    position[queries.order] = np.arange(len(position))
    classes = queries.classes[queries.classes >= 0][position[asked]]
    bars = np.full(len(asked), np.inf)
    for row, (start, end) in enumerate(zip(*gallery.spans(classes), strict=True)):
        numbers = gallery.order[start : min(end, start + _SAMPLE)]
        if queries is gallery:
            numbers = numbers[numbers != asked[row]]
        if len(numbers):
            cosines = _unit(gallery, numbers) @ asking[row]
            bars[row] = cosines.min() if all_positives else cosines.max()
    return bars


def _coordinates(blocks, directions):
    """[a, r] of all rows in the order of the blocks: (n, p + 1) float16."""
    coordinates = np.empty((len(blocks.order), directions.shape[1] + 1), np.float16)
    for start in range(0, len(coordinates), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        rows = _unit(blocks, blocks.order[part]).astype(np.float64)
        a = rows @ directions
        squared = np.square(rows).sum(axis=1) - np.square(a).sum(axis=1)
        left = np.sqrt(np.maximum(squared, 0) + 1e-12)
        coordinates[part, :-1] = a
        coordinates[part, -1] = np.nextafter(left.astype(np.float16), np.float16(2))
    return coordinates


def _products(queries, gallery, rows, others):
    """The cosines of pairs of rows of the embeddings, by faiss, in float32."""
    faiss = importlib.import_module("faiss")
    products = np.empty(len(rows), np.float32)
    if len(rows):
        faiss.pairwise_indexed_inner_product(
            queries.embeddings.shape[1],
            len(rows),
            *(
                faiss.swig_ptr(one)
                for one in (queries.embeddings, rows, gallery.embeddings, others)
            ),
            faiss.swig_ptr(products),
        )
    return products * queries.scales[0, rows, 0] * gallery.scales[0, others, 0]


def _exact(queries, gallery, rows, others):
    first, at_first = np.unique(rows, return_inverse=True)
    second, at_second = np.unique(others, return_inverse=True)
    return exact_cosines_at(
        _unit(queries, first), _unit(gallery, second), (at_first, at_second)
    )
