"""Clusters of embeddings."""

import importlib.util
import warnings

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.checked_embeddings import checked_floats
from keras_dml.evaluation.checked_integer import checked_integer
from keras_dml.evaluation.unit_rows import unit_rows

_ITERATIONS = 300
_LARGEST_SEED = 2**31 - 1


def k_means(
    embeddings: npt.ArrayLike, k: int, starts: int = 10, seed: int = 0
) -> tuple[np.ndarray, str]:
    """Clusters embeddings, scaled to unit length, by k-means.

    faiss does it if it is installed (`pip install "keras_dml[faiss]"`), and otherwise
    scikit-learn, the same way: centres start at k random rows, move until none does or
    300 times, and of all starts the one with the least squared distance to its centres
    is kept. 300 and 10 are the numbers of the released code of
    [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649). The two draw other random
    numbers, so their clusters differ a little; each gives the same ones again for one
    seed on one machine.

    An iteration multiplies an (n, dim) by a (dim, k) matrix. 60,502 × 512 into 11,316
    clusters, the size of Stanford Online Products, took a minute of processor time a
    start; scikit-learn uses one thread.

    Args:
        embeddings: (n, dim) float16, float32 or float64; a zero row stays zero.
        k: clusters, in 1 … n.
        starts: how often to start, at least 1.
        seed: 0 … 2^31 − 1, for the random rows.

    Returns:
        clusters, int64 (n,) in 0 … k − 1, some of which are empty where fewer than k
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
