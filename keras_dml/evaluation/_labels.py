"""Labels and ids of any kind as numbers from 0, once known to fit the embeddings."""

import numpy as np
import numpy.typing as npt

_KINDS = {"i": "integer", "u": "integer", "U": "text", "T": "text", "S": "bytes"}
_TYPES = {int: "integer", np.integer: "integer", str: "text", bytes: "bytes"}


def checked_labels(labels: npt.ArrayLike, name: str, rows: int) -> np.ndarray:
    """Returns labels as an array, one for each row of the embeddings they belong to.

    Args:
        labels: (rows,) integers of any size, or strings.
        name: what the caller's signature calls them, for the error message.
        rows: how many there must be.

    Returns:
        The same labels as an array, of Python integers where no type of NumPy's holds
        them all.

    Raises:
        ValueError: if they have another shape or length, or are neither integers nor
            strings. Floats are refused, as large class numbers collide in them.
    """
    array = np.asarray(labels)
    if array.shape != (rows,):
        raise ValueError(
            f"{name} must have shape ({rows},), one label for each embedding; got "
            f"{array.shape}. Pass integer labels, not one-hot rows, in the same order."
        )
    # NumPy makes text of a list of numbers and text.
    as_given = array if hasattr(labels, "dtype") else np.asarray(labels, object)
    kind = _kind(as_given)
    if kind is None:
        raise ValueError(
            f"{name} must be integers, or strings, and not a mixture; got dtype "
            f'{array.dtype}. Convert whole numbers with `.astype("int64")`, all else '
            "with `.astype(str)`."
        )
    if kind == "integer" and array.dtype.kind not in "iu":
        # And floats of a list of integers below and beyond 2^63, which collide.
        return np.array([int(label) for label in as_given.tolist()], object)
    return array


def class_numbers(
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    names: tuple[str, str] = ("query_labels", "gallery_labels"),
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the classes of both label arrays from 0, equal labels alike.

    Args:
        query_labels: (n,) as `checked_labels` gives them.
        gallery_labels: (m,) of the same kind.
        names: what the caller's signature calls them, for the error message.

    Returns:
        int64 (n,) and (m,), in 0 … classes − 1, in the order of the sorted labels.

    Raises:
        ValueError: if one holds integers and the other strings.
    """
    if _kind(query_labels) != _kind(gallery_labels):
        raise ValueError(
            f"{' and '.join(names)} must be of one kind, integers or strings; "
            f"got dtypes {query_labels.dtype} and {gallery_labels.dtype}. Convert one."
        )
    arrays = [query_labels, gallery_labels]
    joined_type = np.result_type(*arrays)
    if joined_type.kind == "f":
        # NumPy joins int64 and uint64 as float64, where labels beyond 2^53 collide.
        joined_type = np.dtype(object)
    joined = np.concatenate([array.astype(joined_type) for array in arrays])
    numbers = np.unique(joined, return_inverse=True)[1].astype(np.int64)
    return numbers[: len(query_labels)], numbers[len(query_labels) :]


def _kind(array):
    if array.dtype.kind != "O":
        return _KINDS.get(array.dtype.kind)
    kinds = {
        None
        if isinstance(label, bool)
        else next((k for t, k in _TYPES.items() if isinstance(label, t)), None)
        for label in array.tolist()
    }
    return kinds.pop() if len(kinds) == 1 else None


def pair_classes(
    queries: np.ndarray,
    query_labels: npt.ArrayLike,
    gallery: np.ndarray | None,
    gallery_labels: npt.ArrayLike | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the classes of both sides from 0, once known to fit the embeddings.

    Args:
        queries: (n, dim), checked by `checked_pair`.
        query_labels: (n,) integers of any size, or strings.
        gallery: (m, dim), or None: the queries search one another.
        gallery_labels: (m,); given exactly when `gallery` is.

    Returns:
        int64 (n,) and (m,), equal where the labels are; the same array twice if gallery
        is None.

    Raises:
        ValueError: if labels are missing, or do not fit the embeddings or each other.
    """
    query_labels = checked_labels(query_labels, "query_labels", len(queries))
    if gallery is None and gallery_labels is None:
        classes, _ = class_numbers(query_labels, query_labels)
        return classes, classes
    if gallery is None or gallery_labels is None:
        given = "gallery_labels" if gallery is None else "gallery"
        raise ValueError(
            f"gallery and gallery_labels go together; got only {given}. Pass both, or "
            "neither to let the queries search one another."
        )
    gallery_labels = checked_labels(gallery_labels, "gallery_labels", len(gallery))
    return class_numbers(query_labels, gallery_labels)


def pair_ids(
    queries: np.ndarray,
    query_ids: npt.ArrayLike | None,
    gallery: np.ndarray | None,
    gallery_ids: npt.ArrayLike | None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Finds the pairs of a query and a gallery image that have the same id.

    Args:
        queries: (n, any).
        query_ids: (n,) integers of any size, or strings; None where none are given.
        gallery: (m, any), or None where the queries search one another.
        gallery_ids: (m,) of the same kind; given exactly when `query_ids` are.

    Returns:
        Rows of the queries and of the gallery, int64 (pairs,) each; None without ids.

    Raises:
        ValueError: if only one side has ids, there is no gallery, or ids do not fit the
            embeddings or each other.
    """
    if query_ids is None and gallery_ids is None:
        return None
    if query_ids is None or gallery_ids is None:
        given = "gallery_ids" if query_ids is None else "query_ids"
        raise ValueError(
            f"query_ids and gallery_ids go together; got only {given}. Pass both, or "
            "neither where no image is on both sides."
        )
    if gallery is None:
        raise ValueError(
            "query_ids needs a gallery. Leave ids out where the queries search one "
            "another: each is left out of its own results by its row."
        )
    query_ids = checked_labels(query_ids, "query_ids", len(queries))
    gallery_ids = checked_labels(gallery_ids, "gallery_ids", len(gallery))
    query_numbers, gallery_numbers = class_numbers(
        query_ids, gallery_ids, ("query_ids", "gallery_ids")
    )
    order = np.argsort(gallery_numbers, kind="stable")
    in_order = gallery_numbers[order]
    starts = np.searchsorted(in_order, query_numbers, side="left")
    counts = np.searchsorted(in_order, query_numbers, side="right") - starts
    query_rows = np.repeat(np.arange(len(query_numbers)), counts)
    within = np.arange(len(query_rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return query_rows, order[np.repeat(starts, counts) + within]
