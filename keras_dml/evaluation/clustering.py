"""Clusters of embeddings by k-means, and how well they match the classes: NMI."""

import importlib.util
import warnings

import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_floats
from keras_dml._checks import checked_integer
from keras_dml._similarity import unit_rows
from keras_dml.evaluation._labels import checked_labels

_ITERATIONS = 300
_LARGEST_SEED = 2**31 - 1


def k_means(
    embeddings: npt.ArrayLike, k: int, starts: int = 10, seed: int = 0
) -> tuple[np.ndarray, str]:
    """Clusters embeddings, scaled to unit length, by k-means.

    faiss does it if it is installed (`pip install "keras_dml[faiss]"`), and otherwise
    scikit-learn, the same way: centers start at k random rows and move for at most 300
    iterations, and of all starts the one with the least squared distance to its centers
    is kept. 300 and 10 are the numbers of the released code of
    [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649). The two libraries draw
    different random numbers, so their clusters differ a little; for one seed on one
    machine each gives the same ones again.

    An iteration multiplies an (n, dim) by a (dim, k) matrix. 60,502 × 512 into 11,316
    clusters, the size of Stanford Online Products, took a minute of processor time a
    start; scikit-learn uses one thread.

    Args:
        embeddings: (n, dim) float16, float32 or float64; a zero row stays zero.
        k: clusters, in 1 … n.
        starts: how often to start, at least 1.
        seed: 0 … 2^31 − 1, for the random rows.

    Returns:
        (clusters, library): int64 (n,) in 0 … k − 1, some of them empty if fewer than k
        rows differ; and the library with its version, such as "faiss 1.15.1".

    Raises:
        ValueError: if embeddings are empty, not finite or packed codes, or an argument
            is out of its range.

    Example:
        >>> clusters, library = k_means([[1.0, 0.0], [0.0, 1.0], [9.0, 1.0]], k=2)
        >>> bool(clusters[0] == clusters[2] != clusters[1])
        True
    """
    embeddings = checked_floats(embeddings, "embeddings")
    k = checked_integer(k, "k", 1, len(embeddings))
    starts = checked_integer(starts, "starts", 1)
    seed = checked_integer(seed, "seed", 0, _LARGEST_SEED)
    unit = unit_rows(embeddings)
    if importlib.util.find_spec("faiss"):
        return _by_faiss(unit, k, starts, seed)
    return _by_scikit_learn(unit, k, starts, seed)


def _by_faiss(unit, k, starts, seed):
    import faiss

    clustering = faiss.Kmeans(
        unit.shape[1],
        k,
        niter=_ITERATIONS,
        nredo=starts,
        seed=seed,
        # Otherwise faiss warns of small clusters, and leaves out rows of large ones.
        min_points_per_centroid=1,
        max_points_per_centroid=len(unit),
    )
    clustering.train(unit)
    _, nearest = clustering.index.search(unit, 1)
    return nearest[:, 0].astype(np.int64), f"faiss {faiss.__version__}"


def _by_scikit_learn(unit, k, starts, seed):
    import sklearn.cluster
    import sklearn.exceptions
    import threadpoolctl

    clustering = sklearn.cluster.KMeans(
        k,
        init="random",
        n_init=starts,
        max_iter=_ITERATIONS,
        tol=0,
        random_state=seed,
        algorithm="lloyd",
    )
    with (
        warnings.catch_warnings(),
        # Several threads add their sums in an order that changes from run to run.
        threadpoolctl.threadpool_limits(1, user_api="openmp"),
    ):
        # It warns where fewer than k rows differ.
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
        clusters = clustering.fit_predict(unit)
    return clusters.astype(np.int64), f"scikit-learn {sklearn.__version__}"


def normalized_mutual_information(
    labels: npt.ArrayLike, clusters: npt.ArrayLike
) -> float:
    """Gives the mutual information of classes C and clusters K, normalized to 0 … 1.

        NMI = I(C; K) / √(H(C) · H(K))

    The geometric mean is the paper's, and was scikit-learn's default before version
    0.22. The arithmetic mean, its default since, gives lower figures.

    With one class or one cluster an entropy is 0. As in scikit-learn, NMI is then 1 if
    there is one of both, and otherwise 0.

    Args:
        labels: (n,) classes, integers of any size, or strings; n at least 1.
        clusters: (n,) clusters, likewise; the numbers themselves do not matter.

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
    if rows == 0 or np.ndim(labels) != 1:
        raise ValueError(
            "labels must have shape (n,), one label for each image, n at least 1; got "
            f"{np.shape(labels)}."
        )
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
