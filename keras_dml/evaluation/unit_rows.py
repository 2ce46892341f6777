"""Rows scaled to length one."""

import numpy as np

_BLOCK_VALUES = 2**20


def unit_rows(embeddings: np.ndarray, row_multiple: int = 1) -> np.ndarray:
    """Scales every row to Euclidean length one, in float32.

    A row's largest value is first brought near 1 by a power of two, which is exact, so
    that no row, however long or short, overflows or vanishes when it is squared.

    Args:
        embeddings: (n, dim) float16, bfloat16, float32 or float64, every value
            finite.
        row_multiple: zero rows are added until the row count is a multiple of this.

    Returns:
        (n, dim) float32, with the added rows at the end. A zero row stays zero.
    """
    rows, dim = embeddings.shape
    unit = np.zeros((-(-rows // row_multiple) * row_multiple, dim), np.float32)
    working_type = np.promote_types(embeddings.dtype, np.float32)
    exponent_limit = np.finfo(working_type).maxexp - 2
    step = max(1, _BLOCK_VALUES // dim)
    for start in range(0, rows, step):
        block = embeddings[start : start + step].astype(working_type)
        largest = np.maximum(block.max(axis=1), -block.min(axis=1))
        exponents = np.clip(np.frexp(largest)[1], -exponent_limit, exponent_limit)
        block *= np.ldexp(working_type.type(1), -exponents)[:, np.newaxis]
        block = block.astype(np.float32, copy=False)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block))[:, np.newaxis]
        out = unit[start : start + len(block)]
        np.divide(block, lengths, out=out, where=lengths > 0)
    return unit
