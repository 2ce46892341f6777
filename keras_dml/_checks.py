"""Checks of arguments: each returns the value once it is known to be right.

Every message names the argument, what it must be and what was given, and says what to
do where that is not plain. `True` and `False` are neither integers nor numbers here.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from collections.abc import Sequence
from numbers import Integral
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

# Rows of embeddings looked at at a time.
_BLOCK_ROWS = 4096
# By name, as NumPy knows bfloat16 from the package ml_dtypes alone.
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def checked_integer(
    value: Any, name: str, lowest: int | None = None, highest: int | None = None
) -> int:
    """Returns an argument as a Python integer, once known to be one in its range.

    Args:
        value: what the caller passed: a Python or NumPy integer.
        name: what the caller's signature calls it, for the error message.
        lowest: the least it may be; None: no limit.
        highest: the most it may be; None: no limit.

    Returns:
        The same number.

    Raises:
        ValueError: if it is no integer, or out of range.

    Example:
        >>> checked_integer(np.int64(3), "k", 1, 9)
        3
        >>> checked_integer(0, "k", 1)
        Traceback (most recent call last):
        ValueError: k must be an integer of at least 1; got 0.
    """
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if (
        not is_integer
        or (lowest is not None and value < lowest)
        or (highest is not None and value > highest)
    ):
        limits = _limits(least=lowest, most=highest)
        raise ValueError(f"{name} must be an integer{limits}; got {value!r}.")
    return int(value)


def checked_number(
    value: Any,
    name: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    example: Any = None,
) -> float:
    """Returns an argument as a Python float, once known to be finite and in range.

    Args:
        value: what the caller passed: a Python or NumPy integer, float or fraction.
        name: what the caller's signature calls it, for the error message.
        least: the least it may be.
        above: what it must be greater than.
        most: the most it may be.
        below: what it must be less than.
        example: a right value, for the error message.

    Returns:
        The same number.

    Raises:
        ValueError: if it is no number, infinite, NaN or out of range.

    Example:
        >>> checked_number(1, "margin", above=0, example=0.2)
        1.0
        >>> checked_number(-1, "margin", above=0, example=0.2)
        Traceback (most recent call last):
        ValueError: margin must be a number above 0, such as 0.2; got -1.
    """
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    if (
        not math.isfinite(number)
        or (least is not None and number < least)
        or (above is not None and number <= above)
        or (most is not None and number > most)
        or (below is not None and number >= below)
    ):
        limits = _limits(least, above, most, below)
        wanted = f"a number{limits}" if limits else "a finite number"
        if example is not None:
            wanted += f", such as {example}"
        raise ValueError(f"{name} must be {wanted}; got {value!r}.")
    return number


def _limits(least=None, above=None, most=None, below=None):
    """Gives a range in words: " from 1 to 9", " of at least 1", " above 0"."""
    named = {"at least": least, "above": above, "at most": most, "below": below}
    named = {
        words: f"{limit:g}" if isinstance(limit, float) else str(limit)
        for words, limit in named.items()
        if limit is not None
    }
    if list(named) == ["at least", "at most"]:
        return f" from {named['at least']} to {named['at most']}"
    ranges = " and ".join(f"{words} {limit}" for words, limit in named.items())
    if ranges.startswith("at "):
        ranges = f"of {ranges}"
    return ranges and f" {ranges}"


def checked_bool(value: Any, name: str) -> bool:
    """Returns an argument as a bool, once known to be one.

    Raises:
        ValueError: if it is something else, such as the text "False", which is true.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False; got {value!r}.")
    return bool(value)


def checked_choice(value: Any, name: str, choices: Collection[str | None]) -> Any:
    """Returns an argument, once known to be one of several strings, or None.

    Raises:
        ValueError: if it is none of them; the message lists them.

    Example:
        >>> checked_choice("worst", "ties", ("expected", "worst", "best"))
        'worst'
    """
    if not isinstance(value, str | None) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {listed}; got {value!r}.")
    return value


def checked_ks(ks: Sequence[int]) -> tuple[int, ...]:
    """Returns the ranks K at which recall is asked for, as Python integers.

    Args:
        ks: distinct integers, each at least 1, at least one of them.

    Returns:
        The same, in the same order.

    Raises:
        ValueError: if they are anything else.

    Example:
        >>> checked_ks(np.array([1, 10]))
        (1, 10)
    """
    remedy = "Pass distinct integers of at least 1, such as ks=(1, 2, 4, 8)."
    try:
        given = tuple(ks)
    except TypeError:
        raise ValueError(f"ks must be a sequence; got {ks!r}. {remedy}") from None
    for k in given:
        if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
            raise ValueError(f"ks holds {k!r}. {remedy}")
    ranks = tuple(map(int, given))
    if not ranks or len(set(ranks)) < len(ranks):
        raise ValueError(f"ks must be distinct, and not empty; got {ranks}. {remedy}")
    return ranks


def checked_rates(rates: Sequence[float], name: str) -> tuple[float, ...]:
    """Returns false accept rates as Python floats.

    Args:
        rates: distinct numbers of at least 0 and below 1; may be empty.
        name: what the caller's signature calls them, for the error message.

    Returns:
        The same, in the same order.

    Raises:
        ValueError: if they are anything else.

    Example:
        >>> checked_rates([0.001, 0.01], "false_accept_rates")
        (0.001, 0.01)
    """
    remedy = "Pass distinct numbers of at least 0 and below 1, such as (0.001, 0.01)."
    if isinstance(rates, str):
        raise ValueError(f"{name} must be a sequence; got {rates!r}. {remedy}")
    try:
        given = tuple(rates)
    except TypeError:
        raise ValueError(
            f"{name} must be a sequence; got {rates!r}. {remedy}"
        ) from None
    for rate in given:
        is_number = isinstance(rate, Real) and not isinstance(rate, bool)
        if not is_number or not 0 <= rate < 1 or float(rate) == 1:
            raise ValueError(f"{name} holds {rate!r}. {remedy}")
    numbers = tuple(map(float, given))
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{name} must be distinct; got {numbers}. {remedy}")
    return numbers


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
            f"{in_order[row, place]} twice. Pass the ids as a search gives them, -1 "
            "where it found nothing."
        )


def checked_embeddings(embeddings: npt.ArrayLike, name: str) -> np.ndarray:
    """Returns embeddings as an array, once known to be comparable.

    Args:
        embeddings: (n, dim) float16, bfloat16, float32 or float64, or (n, bytes) uint8
            packed binary codes; n and the width at least 1, every value finite.
        name: what the caller's signature calls them, for the error message.

    Returns:
        The same values, not copied when they are an array already.

    Raises:
        ValueError: if they have another shape or type, or hold a NaN or an infinity.
    """
    try:
        array = np.asarray(embeddings)
    except ValueError as error:  # rows of several lengths
        raise ValueError(
            f"{name} must have shape (n, dim), one row an image; NumPy makes no array "
            f"of what was given: {error}"
        ) from None
    if array.ndim != 2:
        raise ValueError(
            f"{name} must have shape (n, dim), one row an image; got {array.shape}. "
            "Flatten each image's embedding, and give a single one as `[embedding]`."
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
            "here means packed codes. Pass the embeddings that they were made of."
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
        Both as arrays; None for a gallery of None.

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


def image_side(embedder: Any) -> int:
    """Returns the side, in pixels, of the square images that a model takes.

    Args:
        embedder: a `keras.Model` of one input, of shape (batch, side, side, 3).

    Returns:
        The side.

    Raises:
        ValueError: if it does not take square images of a fixed size.
    """
    shape = embedder.input_shape
    if len(shape) != 4 or shape[1] is None or shape[1] != shape[2]:
        raise ValueError(
            "embedder must take square images of a fixed size, (batch, side, side, 3); "
            f"{embedder.name!r} takes {shape}."
        )
    return shape[1]
