"""How well a clustering agrees with the classes."""

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.class_numbers import checked_labels


def normalized_mutual_information(
    labels: npt.ArrayLike, clusters: npt.ArrayLike
) -> float:
    """Gives the mutual information of classes C and clusters K over their entropies.

        NMI = I(C; K) / √(H(C) · H(K))

    The geometric mean is the paper's, and was scikit-learn's default before version
    0.22. The arithmetic mean, its default since, gives lower figures.

    With one class or one cluster an entropy is 0. As in scikit-learn, NMI is then 1 if
    there is one of both, and otherwise 0.

    Args:
        labels: (n,) classes, integers of any size, or strings; n at least 1.
        clusters: (n,) clusters, likewise. Which number a cluster has plays no part.

    Returns:
        0 (independent) … 1 (the same partition).

    Raises:
        ValueError: if the lengths differ or are 0, or either is neither integers nor
            strings.

    Example:
        >>> normalized_mutual_information(["cat", "cat", "dog"], [1, 1, 0])
        1.0

    Reference:
        [Strehl & Ghosh, 2002](https://www.jmlr.org/papers/v3/strehl02a.html),
        equation 2.
    """
    rows = np.size(labels)
    if rows == 0:
        raise ValueError("labels is empty. Pass one label for each image.")
    classes, class_sizes = _numbered(labels, "labels", rows)
    clusters, cluster_sizes = _numbered(clusters, "clusters", rows)
    if len(class_sizes) == 1 or len(cluster_sizes) == 1:
        return float(len(class_sizes) == len(cluster_sizes))

    cells, cell_sizes = np.unique(
        classes * len(cluster_sizes) + clusters, return_counts=True
    )
    class_of_cell, cluster_of_cell = np.divmod(cells, len(cluster_sizes))
    expected = class_sizes[class_of_cell] * (cluster_sizes[cluster_of_cell] / rows)
    information = (cell_sizes / rows * np.log(cell_sizes / expected)).sum()
    entropies = _entropy(class_sizes / rows) * _entropy(cluster_sizes / rows)
    # Rounding may leave the range by an ulp.
    return float(np.clip(information / np.sqrt(entropies), 0, 1))


def _numbered(labels, name, rows):
    _, numbers, sizes = np.unique(
        checked_labels(labels, name, rows), return_inverse=True, return_counts=True
    )
    return numbers, sizes


def _entropy(shares):
    return -(shares * np.log(shares)).sum()
