"""Checks on the arrays of embeddings that enter this package."""

import numpy as np
import numpy.typing as npt

_BLOCK_ROWS = 4096
# By name, as NumPy knows bfloat16 from the package ml_dtypes alone.
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def checked_embeddings(embeddings: npt.ArrayLike, name: str) -> np.ndarray:
    """Returns embeddings as an array, once known to be fit to be compared.

    Args:
        embeddings: (n, dim) float16, bfloat16, float32 or float64, or (n, bytes) uint8
            packed binary codes; n and the width at least 1, every value finite.
        name: what the caller's signature calls them, for the error message.

    Returns:
        The same values, not copied when they are an array already.

    Raises:
        ValueError: if they have another shape or type, or hold a NaN or an infinity.
    """
    array = np.asarray(embeddings)
    if array.ndim != 2:
        raise ValueError(
            f"{name} must have shape (n, dim), one row an image; got {array.shape}."
        )
    if 0 in array.shape:
        raise ValueError(
            f"{name} must hold at least one row of at least one value; got shape "
            f"{array.shape}. Check that the data set they come from is not empty."
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype.name not in _FLOATS:
        raise ValueError(
            f"{name} must be float16, bfloat16, float32 or float64 embeddings, or "
            f"uint8 packed codes; got {array.dtype}. Convert embeddings with "
            '`.astype("float32")`, or bfloat16 that NumPy read from a file as V2 with '
            "`.view(ml_dtypes.bfloat16)`; make codes with `binary_codes(embeddings)`."
        )
    for start in range(0, len(array), _BLOCK_ROWS):
        finite = np.isfinite(array[start : start + _BLOCK_ROWS]).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"{name} must be finite; row {start + int(finite.argmin())} holds a "
                "NaN or an infinity. Drop that image, or find where training diverged."
            )
    return array


def checked_floats(embeddings: npt.ArrayLike, name: str) -> np.ndarray:
    """Returns embeddings as `checked_embeddings` does, but refuses packed codes.

    Args:
        embeddings: (n, dim) float16, bfloat16, float32 or float64.
        name: what the caller's signature calls them, for the error message.

    Returns:
        The same values as an array.

    Raises:
        ValueError: where `checked_embeddings` raises, and if they are uint8.
    """
    array = checked_embeddings(embeddings, name)
    if array.dtype == np.uint8:
        raise ValueError(
            f"{name} must be float16, bfloat16, float32 or float64; got uint8, which "
            "here means packed codes. Pass what the codes were made from."
        )
    return array


def checked_pair(
    queries: npt.ArrayLike, gallery: npt.ArrayLike | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns queries and the gallery they search, once known to be comparable.

    Args:
        queries: (n, dim) embeddings or (n, bytes) codes.
        gallery: (m, dim) or (m, bytes) of the same kind and width, or None where
            the queries search one another. Float types of different sizes may mix.

    Returns:
        Both as arrays, the gallery None where it was None.

    Raises:
        ValueError: where `checked_embeddings` raises, and if one holds embeddings and
            the other codes, or their widths differ.
    """
    queries = checked_embeddings(queries, "queries")
    if gallery is None:
        return queries, None
    gallery = checked_embeddings(gallery, "gallery")
    if (queries.dtype == np.uint8) != (gallery.dtype == np.uint8):
        raise ValueError(
            "queries and gallery must both be float embeddings or both uint8 packed "
            f"codes; got {queries.dtype} and {gallery.dtype}. Make codes of both with "
            "`binary_codes`, or of neither."
        )
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            "queries and gallery must have rows of one width; got shapes "
            f"{queries.shape} and {gallery.shape}. Embed both with the same model."
        )
    return queries, gallery
