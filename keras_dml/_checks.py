"""The check on an integer argument."""

import math
from collections.abc import Sequence
from numbers import Integral

import keras
import numpy as np
import numpy.typing as npt


def checked_integer(
    value: int, name: str, lowest: int, highest: int | None = None
) -> int:
    """Returns an argument as a Python integer, once known to be one in its range.

    Args:
        value: what the caller passed.
        name: what the caller's signature calls it, for the error message.
        lowest: the least it may be.
        highest: the most it may be; None: no limit.

    Returns:
        The same number.

    Raises:
        ValueError: if it is no integer, or out of range; True and False are none.
    """
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not integer or value < lowest or (highest is not None and value > highest):
        limits = f"at least {lowest}" if highest is None else f"{lowest} … {highest}"
        raise ValueError(f"{name} must be an integer, {limits}; got {value!r}.")
    return int(value)


def checked_number(value, name, example, least=None, above=None):
    """Returns the value as a float, once known to be finite and in range.

    Raises:
        ValueError: if it is not; the message has the name and an example.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if least is not None:
        wanted, is_right = f"{least:g} or more", number >= least
    elif above is not None:
        wanted, is_right = f"above {above:g}", number > above
    else:
        wanted, is_right = "a finite number", True
    if not (is_right and math.isfinite(number)):
        raise ValueError(f"{name} must be {wanted}, such as {example}; got {value!r}.")
    return number


def checked_bool(value, name):
    """Returns the value as a bool, once known to be one.

    Raises:
        ValueError: if it is something else, such as the text "False", which is true.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False; got {value!r}.")
    return bool(value)


def checked_ks(ks: Sequence[int]) -> tuple[int, ...]:
    """Returns the ranks at which recall is asked for, as Python integers.

    Args:
        ks: distinct integers, each at least 1, at least one of them.

    Returns:
        The same, in the same order.

    Raises:
        ValueError: if they are anything else.
    """
    remedy = "Pass distinct integers of at least 1, such as ks=(1, 2, 4, 8)."
    try:
        ranks = tuple(ks)
    except TypeError:
        raise ValueError(f"ks must be a sequence; got {ks!r}. {remedy}") from None
    for k in ranks:
        if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
            raise ValueError(f"ks holds {k!r}. {remedy}")
    if not ranks or len(set(ranks)) < len(ranks):
        raise ValueError(f"ks must be distinct, and not empty; got {ks!r}. {remedy}")
    return tuple(int(k) for k in ranks)


TIES = ("expected", "worst", "best")


def checked_ties(ties: str) -> str:
    """Returns `ties`, once known to be one of `TIES`.

    Raises:
        ValueError: if it is not.
    """
    if ties not in TIES:
        raise ValueError(
            f"ties must be one of {', '.join(map(repr, TIES))}; got {ties!r}."
        )
    return ties


def check_distinct(ids: np.ndarray, name: str) -> None:
    """Makes sure that no row holds an id twice.

    Args:
        ids: (n, k) integers; those below 0, where nothing was found, may repeat.
        name: what the caller's signature calls them, for the error message.

    Raises:
        ValueError: if a row holds an id twice; the message has the first such row.
    """
    in_order = np.sort(ids, axis=1)
    twice = (in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)
    if twice.any():
        row, place = np.argwhere(twice)[0]
        raise ValueError(
            f"{name} must not hold an id twice in a row; row {row} holds "
            f"{in_order[row, place]} twice. Pass the ids as a search gives them, −1 "
            "where it found nothing."
        )


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


def image_side(embedder: keras.Model) -> int:
    """The side, in pixels, of the square images that a model takes.

    Raises:
        ValueError: if the model does not take square images of a fixed size.
    """
    shape = embedder.input_shape
    if len(shape) != 4 or shape[1] is None or shape[1] != shape[2]:
        raise ValueError(
            "embedder must take square images of a fixed size, (batch, side, side, 3); "
            f"{embedder.name!r} takes {shape}."
        )
    return shape[1]
