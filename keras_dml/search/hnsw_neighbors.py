"""Approximate nearest neighbors through faiss's HNSW graph."""

import contextlib

import numpy as np

from keras_dml._checks import checked_integer
from keras_dml.search.neighbors import Neighbors

_INDEX_FILE = "index.faiss"
_LARGEST_INT32 = 2**31 - 1
_WRITTEN_EF = 16  # faiss's own default


class HNSWNeighbors(Neighbors):
    """An index that finds nearly all of the nearest rows, by walking a graph of them.

    Needs faiss: `pip install "keras_dml[faiss]"`. One thread builds it, so that one
    seed on one machine gives one file, byte for byte; all threads search.

    Args:
        links: graph edges of a row, at least 2, and twice as many on the ground level.
            More find more, for more memory; 32 is faiss's default.
        build_ef: candidates kept while a row is linked in, at least 1. More make a
            better graph, in more time; 200 is hnswlib's default.
        ef: candidates a search keeps, at least 1, and never fewer than the neighbors
            asked for. More find more, for more time.
        seed: 0 … 2^31 − 1, for the levels of the graph.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> index = HNSWNeighbors()
        >>> index.build([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
        >>> ids, similarities = index.search([[0.1, 0.9]], k=2)
        >>> ids.tolist()
        [[1, 2]]

    References:
        Malkov & Yashunin, "Efficient and robust approximate nearest neighbor search
        using Hierarchical Navigable Small World graphs",
        https://arxiv.org/abs/1603.09320; [faiss](https://github.com/facebookresearch/faiss)
    """

    kind = "hnsw"

    def __init__(
        self, links: int = 32, build_ef: int = 200, ef: int = 128, seed: int = 0
    ):
        """Checks the arguments; the class docstring has them."""
        super().__init__()
        self._links = checked_integer(links, "links", 2, 2**10)
        self._build_ef = checked_integer(build_ef, "build_ef", 1, _LARGEST_INT32)
        self.ef = ef
        self._seed = checked_integer(seed, "seed", 0, _LARGEST_INT32)

    @property
    def links(self) -> int:
        """Graph edges of a row."""
        return self._links

    @property
    def build_ef(self) -> int:
        """Candidates kept while a row is linked in."""
        return self._build_ef

    @property
    def seed(self) -> int:
        """The seed of the graph's levels."""
        return self._seed

    @property
    def ef(self) -> int:
        """Candidates a search keeps. May be set, which drops the calibration."""
        return self._ef

    @ef.setter
    def ef(self, ef: int):
        self._ef = checked_integer(ef, "ef", 1, _LARGEST_INT32)
        self.calibration = None

    @property
    def parameters(self) -> dict[str, int]:
        """The arguments of the constructor."""
        names = ("links", "build_ef", "ef", "seed")
        return {name: getattr(self, name) for name in names}

    def _built(self, metric, dim, rows, blocks):
        faiss = _faiss()
        if metric == "hamming":
            index = faiss.IndexBinaryHNSW(8 * dim, self.links)
        else:
            index = faiss.IndexHNSWFlat(dim, self.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.build_ef
        index.hnsw.rng = faiss.RandomGenerator(self.seed)
        with _one_thread(faiss):
            for block in blocks:
                index.add(block)
        return index

    def _nearest(self, block, k):
        self._index.hnsw.efSearch = min(max(self.ef, k), self.count)
        scores, rows = self._index.search(block, k)
        if self.metric == "hamming":
            scores = -scores.astype(np.float32)
        return rows, np.where(rows >= 0, scores, -np.inf)

    def _write(self, folder):
        # faiss writes what the last search set, and a search sets its own.
        self._index.hnsw.efSearch = _WRITTEN_EF
        file = str(folder / _INDEX_FILE)
        if self.metric == "hamming":
            _faiss().write_index_binary(self._index, file)
        else:
            _faiss().write_index(self._index, file)

    def _read(self, folder):
        faiss = _faiss()
        file = str(folder / _INDEX_FILE)
        if self.metric == "hamming":
            index = faiss.read_index_binary(file)
            wanted = faiss.IndexBinaryHNSW, 8 * self.dim, self.count
        else:
            index = faiss.read_index(file)
            wanted = faiss.IndexHNSWFlat, self.dim, self.count
        if (type(index), index.d, index.ntotal) != wanted:
            raise ValueError(
                f"{_INDEX_FILE} is a {type(index).__name__} of {index.ntotal} rows of "
                f"{index.d}"
            )
        return index


def _faiss():
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "An HNSW index needs faiss. Install it with "
            '`pip install "keras_dml[faiss]"`.'
        ) from error
    return faiss


@contextlib.contextmanager
def _one_thread(faiss):
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
