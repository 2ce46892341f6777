"""Approximate nearest neighbors through faiss's HNSW graph."""

import contextlib
from typing import ClassVar

import numpy as np

from keras_dml._checks import checked_integer
from keras_dml._ops import import_extra
from keras_dml.search.neighbors import Neighbors

_INDEX_FILE = "index.faiss"
_LARGEST_INT32 = 2**31 - 1
_WRITTEN_EF_SEARCH = 16  # faiss's own default


class HNSWNeighbors(Neighbors):
    """An index that finds nearly all of the nearest rows, by walking a graph of them.

    Needs faiss: `pip install "keras_dml[faiss]"`. One thread builds it, so that one
    seed on one machine gives one file, byte for byte; all threads search. The
    parameters have the names of faiss, hnswlib and the paper.

    Args:
        M: graph edges of a row, 2 … 1,024, and twice as many on the ground level. More
            find more, for more memory; 32 is faiss's default.
        ef_construction: candidates kept while a row is added to the graph, at least 1.
            More make a better graph, in more time; 200 is hnswlib's default.
        ef_search: candidates a search keeps, at least 1, and never fewer than the
            neighbors asked for. More find more, for more time. May be set on the index
            later.
        seed: 0 … 2^31 − 1, for the levels of the graph.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> index = HNSWNeighbors(M=16)
        >>> index.build([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
        >>> ids, similarities = index.search([[0.1, 0.9]], k=2)
        >>> ids.tolist()
        [[1, 2]]
        >>> index.ef_search = 500

    Reference:
        Malkov & Yashunin, "Efficient and robust approximate nearest neighbor search
        using Hierarchical Navigable Small World graphs",
        https://arxiv.org/abs/1603.09320; [faiss](https://github.com/facebookresearch/faiss)
    """

    kind = "hnsw"
    # By the names that version 0.1 wrote.
    _old_parameters: ClassVar = {
        "links": "M",
        "build_ef": "ef_construction",
        "ef": "ef_search",
    }

    def __init__(
        self,
        M: int = 32,  # noqa: N803
        ef_construction: int = 200,
        ef_search: int = 128,
        seed: int = 0,
    ):
        super().__init__()
        self._M = checked_integer(M, "M", 2, 2**10)
        self._ef_construction = checked_integer(
            ef_construction, "ef_construction", 1, _LARGEST_INT32
        )
        self.ef_search = ef_search
        self._seed = checked_integer(seed, "seed", 0, _LARGEST_INT32)

    @property
    def M(self) -> int:  # noqa: N802
        """Graph edges of a row."""
        return self._M

    @property
    def ef_construction(self) -> int:
        """Candidates kept while a row is added to the graph."""
        return self._ef_construction

    @property
    def ef_search(self) -> int:
        """Candidates a search keeps. May be set, which drops the calibration."""
        return self._ef_search

    @ef_search.setter
    def ef_search(self, ef_search: int) -> None:
        self._ef_search = checked_integer(ef_search, "ef_search", 1, _LARGEST_INT32)
        self.calibration = None

    @property
    def seed(self) -> int:
        """The seed of the graph's levels."""
        return self._seed

    @property
    def parameters(self) -> dict[str, int]:
        """The arguments of the constructor."""
        names = ("M", "ef_construction", "ef_search", "seed")
        return {name: getattr(self, name) for name in names}

    def _build(self, metric, dim, count, blocks):
        faiss = _faiss()
        if metric == "hamming":
            index = faiss.IndexBinaryHNSW(8 * dim, self.M)
        else:
            index = faiss.IndexHNSWFlat(dim, self.M, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.ef_construction
        index.hnsw.rng = faiss.RandomGenerator(self.seed)
        with _one_thread(faiss):
            for block in blocks:
                index.add(block)
        return index

    def _search(self, block, k):
        self._index.hnsw.efSearch = min(max(self.ef_search, k), self.count)
        scores, rows = self._index.search(block, k)
        if self.metric == "hamming":
            scores = -scores.astype(np.float32)
        return rows, np.where(rows >= 0, scores, -np.inf)

    def _write(self, folder):
        # faiss writes what the last search set, which is not to change the file.
        self._index.hnsw.efSearch = _WRITTEN_EF_SEARCH
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
                f"{_INDEX_FILE} is of type {type(index).__name__}, with {index.ntotal} "
                f"rows of {index.d}"
            )
        return index


def _faiss():
    return import_extra("faiss", "HNSWNeighbors", "faiss")


@contextlib.contextmanager
def _one_thread(faiss):
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
