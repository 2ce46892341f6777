"""Approximate nearest neighbors through Annoy's trees, and a check of Annoy itself."""

import functools
import math
import types

import numpy as np

from keras_dml._checks import checked_integer
from keras_dml.search.neighbors import Neighbors

_METRICS = {"cosine": "angular", "hamming": "hamming"}
_INDEX_FILE = "index.ann"
_LARGEST_INT32 = 2**31 - 1
_SEARCH_K_PER_TREE = 200

# The index that the installed Annoy is tried on.
_CHECK_ITEMS = 64
_CHECK_DIM = 40
_CHECK_NEIGHBORS = 5


class AnnoyNeighbors(Neighbors):
    """An index that finds most of the nearest rows, by a forest of random splits.

    One thread builds it, so that one seed on one machine gives one forest. Embeddings
    give one file too, byte for byte; with codes Annoy leaves bytes in it that nothing
    reads, and that differ from process to process.

    How much it finds depends on the data, and can be far less than one expects: on
    60,502 hard vectors of 512 dimensions 50 trees with Annoy's own `search_k` find the
    nearest neighbor of 39 % of queries. `calibrated_neighbors` chooses `trees` and
    `search_k` for a target, and says where `ExactNeighbors` would be faster.

    Args:
        trees: trees in the forest, at least 1. More find more, for more memory.
        search_k: tree nodes a search inspects, at least 1. More find more, for more
            time. Defaults to 200 × `trees`; Annoy's own default, k × `trees`, would
            make the first neighbor depend on how many are asked for. A search for
            more than `search_k` neighbors inspects as many nodes as neighbors. May be
            set on the index later.
        seed: 0 … 2^31 − 1, for the random splits.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> index = AnnoyNeighbors()
        >>> index.build([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
        >>> ids, similarities = index.search([[0.1, 0.9]], k=2)
        >>> ids.tolist()
        [[1, 2]]

    Reference:
        [Annoy](https://github.com/spotify/annoy)
    """

    kind = "annoy"

    def __init__(self, trees: int = 50, search_k: int | None = None, seed: int = 0):
        super().__init__()
        self._trees = checked_integer(trees, "trees", 1, _LARGEST_INT32)
        if search_k is None:
            search_k = min(_SEARCH_K_PER_TREE * self._trees, _LARGEST_INT32)
        self.search_k = search_k
        self._seed = checked_integer(seed, "seed", 0, _LARGEST_INT32)

    @property
    def trees(self) -> int:
        """Trees in the forest."""
        return self._trees

    @property
    def search_k(self) -> int:
        """Nodes a search inspects. May be set, which drops the calibration."""
        return self._search_k

    @search_k.setter
    def search_k(self, search_k: int) -> None:
        self._search_k = checked_integer(search_k, "search_k", 1, _LARGEST_INT32)
        self.calibration = None

    @property
    def seed(self) -> int:
        """The seed of the random splits."""
        return self._seed

    @property
    def parameters(self) -> dict[str, int]:
        """The arguments of the constructor."""
        return {"trees": self.trees, "search_k": self.search_k, "seed": self.seed}

    def _build(self, metric, dim, count, blocks):
        index = _empty_index(metric, dim)
        index.set_seed(self.seed)
        item = 0
        for block in blocks:
            for row in _vectors(block):
                index.add_item(item, row.tolist())
                item += 1
        index.build(self.trees, n_jobs=1)
        return index

    def _search(self, block, k):
        rows = np.full((len(block), k), -1, np.int64)
        distances = np.full((len(block), k), np.inf, np.float32)
        inspected = max(self.search_k, k)
        for query, vector in enumerate(_vectors(block)):
            found, found_distances = self._index.get_nns_by_vector(
                vector.tolist(), k, inspected, include_distances=True
            )
            rows[query, : len(found)] = found
            distances[query, : len(found)] = found_distances
        if self.metric == "hamming":
            return rows, -distances
        # Annoy's angular distance is the chord between unit vectors.
        return rows, 1 - np.square(distances) / 2

    def _write(self, folder):
        self._index.save(str(folder / _INDEX_FILE))

    def _read(self, folder):
        # Annoy maps the file without reading it through, and a damaged one can crash
        # the process; but its checksum has been compared by now.
        index = _empty_index(self.metric, self.dim)
        index.load(str(folder / _INDEX_FILE))
        rows, trees = index.get_n_items(), index.get_n_trees()
        # Annoy writes each root twice, and counts both where a root has all the rows,
        # which is so up to some dim + 2 rows; a single row it counts as a root, too.
        twice = 2 * self.trees
        if rows != self.count or trees not in (self.trees, twice - 1, twice, twice + 1):
            raise ValueError(f"{_INDEX_FILE} holds {rows} rows in {trees} trees")
        return index


def _empty_index(metric, dim):
    values = 8 * dim if metric == "hamming" else dim
    return checked_annoy().AnnoyIndex(values, _METRICS[metric])


def _vectors(block):
    return np.unpackbits(block, axis=1) if block.dtype == np.uint8 else block


@functools.cache
def checked_annoy() -> types.ModuleType:
    """Imports annoy and checks, once a process, that its index finds neighbors.

    Annoy is compiled where it is installed, and some compilers silently build one that
    returns a single neighbor:
    https://github.com/spotify/annoy/issues/679, and 682 and 693 beside it.

    Returns:
        The module `annoy`.

    Raises:
        ImportError: if annoy is not installed.
        RuntimeError: if its index does not find the neighbors of a known point.
    """
    try:
        import annoy
    except ImportError as error:
        raise ImportError(
            "AnnoyNeighbors needs annoy, which is not installed. Install it with "
            "`pip install annoy==1.17.3`, which compiles it: have a C++ compiler ready."
        ) from error

    # Points along a quarter circle, so the nearest to the first are the next ones.
    index = annoy.AnnoyIndex(_CHECK_DIM, "angular")
    index.set_seed(1)
    for item in range(_CHECK_ITEMS):
        index.add_item(item, _point_on_arc(item))
    index.build(4, n_jobs=1)
    found = index.get_nns_by_vector(
        _point_on_arc(0), _CHECK_NEIGHBORS, 100 * _CHECK_ITEMS
    )
    expected = list(range(_CHECK_NEIGHBORS))
    if found != expected:
        raise RuntimeError(
            f"The installed annoy is broken: for a known index it found {found} where "
            f"{expected} is right. Rebuild it without its machine-specific flags: "
            '`ANNOY_COMPILER_ARGS="-O3,-std=c++14" pip install --force-reinstall '
            "--no-cache-dir --no-binary annoy annoy==1.17.3`, or with another compiler."
        )
    return annoy


def _point_on_arc(item):
    angle = item * math.pi / 2 / (_CHECK_ITEMS - 1)
    half = _CHECK_DIM // 2
    return [math.cos(angle)] * half + [math.sin(angle)] * half
