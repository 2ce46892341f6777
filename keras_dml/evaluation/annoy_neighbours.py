"""Approximate nearest neighbours through Annoy."""

import numpy as np

from keras_dml.evaluation.checked_annoy import checked_annoy
from keras_dml.evaluation.checked_integer import checked_integer
from keras_dml.evaluation.neighbours import Neighbours

_METRICS = {"cosine": "angular", "hamming": "hamming"}
_INDEX_FILE = "index.ann"
_LARGEST_INT32 = 2**31 - 1
_SEARCH_K_A_TREE = 200


class AnnoyNeighbours(Neighbours):
    """An index that finds most of the nearest rows, by a forest of random splits.

    One thread builds it, so that one seed on one machine gives one file, byte for byte.

    How much it finds depends on the data, and can be far less than one expects: on
    60,502 hard vectors of 512 dimensions 50 trees with Annoy's own `search_k` find the
    nearest neighbour of 39 % of queries. `calibrated_neighbours` chooses `trees` and
    `search_k` for a target, and says where `ExactNeighbours` would be faster.

    Args:
        trees: trees in the forest, at least 1. More find more, for more memory.
        search_k: tree nodes a search inspects, at least 1. More find more, for more
            time. Defaults to 200 × `trees`; Annoy's own default, k × `trees`, would
            make the first neighbour depend on how many are asked for. A search for
            more than `search_k` neighbours inspects as many nodes as neighbours.
        seed: 0 … 2^31 − 1, for the random splits.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> index = AnnoyNeighbours()
        >>> index.build([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
        >>> ids, similarities = index.search([[0.1, 0.9]], k=2)
        >>> ids.tolist()
        [[1, 2]]

    Reference:
        [Annoy](https://github.com/spotify/annoy)
    """

    kind = "annoy"

    def __init__(self, trees: int = 50, search_k: int | None = None, seed: int = 0):
        """Checks the arguments; the class docstring has them."""
        super().__init__()
        self._trees = checked_integer(trees, "trees", 1, _LARGEST_INT32)
        if search_k is None:
            search_k = min(_SEARCH_K_A_TREE * self._trees, _LARGEST_INT32)
        self.search_k = search_k
        self._seed = checked_integer(seed, "seed", 0, _LARGEST_INT32)

    @property
    def trees(self) -> int:
        """Trees in the forest."""
        return self._trees

    @property
    def seed(self) -> int:
        """The seed of the random splits."""
        return self._seed

    @property
    def search_k(self) -> int:
        """Nodes a search inspects. May be set, which drops the calibration."""
        return self._search_k

    @search_k.setter
    def search_k(self, search_k: int):
        self._search_k = checked_integer(search_k, "search_k", 1, _LARGEST_INT32)
        self.calibration = None

    @property
    def parameters(self) -> dict[str, int]:
        """The arguments of the constructor."""
        return {"trees": self.trees, "search_k": self.search_k, "seed": self.seed}

    def _built(self, metric, dim, rows, blocks):
        index = _empty(metric, dim)
        index.set_seed(self.seed)
        item = 0
        for block in blocks:
            for row in _vectors(block):
                index.add_item(item, row.tolist())
                item += 1
        index.build(self.trees, n_jobs=1)
        return index

    def _nearest(self, block, k):
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
        # Annoy maps the file without reading it through, and a damaged one can end the
        # process; but its checksum has been compared by now.
        index = _empty(self.metric, self.dim)
        index.load(str(folder / _INDEX_FILE))
        held = index.get_n_items(), index.get_n_trees()
        if held != (self.count, self.trees):
            raise ValueError(f"{_INDEX_FILE} holds {held[0]} rows in {held[1]} trees")
        return index


def _empty(metric, dim):
    values = 8 * dim if metric == "hamming" else dim
    return checked_annoy().AnnoyIndex(values, _METRICS[metric])


def _vectors(block):
    return np.unpackbits(block, axis=1) if block.dtype == np.uint8 else block
