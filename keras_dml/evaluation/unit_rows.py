"""Rows scaled to length one."""

import numpy as np

_BLOCK_VALUES = 2**20


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
    step = max(1, _BLOCK_VALUES // dim)
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
