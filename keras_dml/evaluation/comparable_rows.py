"""Rows made ready to be compared, and their similarities."""

import importlib.util

import numpy as np

from keras_dml.evaluation.unit_rows import unit_rows

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
