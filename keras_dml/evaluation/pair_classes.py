"""The classes of queries and of the gallery they search."""

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.class_numbers import checked_labels
from keras_dml.evaluation.class_numbers import class_numbers


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
        int64 (n,) and (m,), equal where the labels are; without a gallery the same
        array twice.

    Raises:
        ValueError: if labels are missing, or do not fit the embeddings or each other.
    """
    query_labels = checked_labels(query_labels, "query_labels", len(queries))
    if (gallery is None) != (gallery_labels is None):
        given = "gallery_labels" if gallery is None else "gallery"
        raise ValueError(
            f"gallery and gallery_labels go together; got only {given}. Pass both, or "
            "neither to let the queries search one another."
        )
    if gallery is None:
        classes, _ = class_numbers(query_labels, query_labels)
        return classes, classes
    gallery_labels = checked_labels(gallery_labels, "gallery_labels", len(gallery))
    return class_numbers(query_labels, gallery_labels)
