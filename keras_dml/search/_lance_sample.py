"""The sample of images that a growing gallery is calibrated on.

Each is searched exactly and through the index, and left out of what is found for it.
"""

import hashlib
import heapq
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_dml.search._lance_table import as_numpy
from keras_dml.search._lance_table import quoted
from keras_dml.search._least_effort import judged_agreement

_MOST_QUERIES = 1000
_TIMED_QUERIES = 150
_TIMED_SECONDS = 10
_TOLERANCE = 1e-6


class LanceSample:
    """A sample of a gallery's images with their exact neighbors.

    Args:
        nearest: gives ids, classes and distances, (queries, k), from (embeddings, k,
            effort); those of exact search for None.
        table: the gallery's.
        k: neighbors to find.
        seed: draws the images.
    """

    def __init__(
        self, nearest: Callable[..., Any], table: Any, k: int, seed: int
    ) -> None:
        self._nearest = nearest
        self.k = min(k, table.count_rows() - 1)
        self.ids = np.array(_drawn(_ids(table), seed))
        self.queries = self._embeddings(table)
        self.reach = self._reach(table)

    def _embeddings(self, table):
        wanted = ", ".join(map(quoted, self.ids))
        found = (
            table.search()
            .where(f"id IN ({wanted})")
            .select(["id", "embedding"])
            .to_arrow()
        )
        rows = dict(
            zip(found["id"].to_pylist(), as_numpy(found["embedding"]), strict=True)
        )
        return np.stack([rows[one] for one in self.ids])

    def _reach(self, table):
        """(queries,) distances of the k-th nearest, each image itself left out."""
        nearest = np.full((len(self.ids), self.k + 1), np.inf, np.float32)
        for batch in table.search().select(["embedding"]).to_batches():
            rows = np.stack(batch["embedding"].to_numpy(zero_copy_only=False))
            both = np.concatenate([nearest, 1 - self.queries @ rows.T], axis=1)
            nearest = np.partition(both, self.k, axis=1)[:, : self.k + 1]
        return nearest.max(axis=1)

    def agreement(self, effort: Any, target: float) -> tuple[float, bool]:
        """The mean agreement, and whether it reaches the target beyond doubt."""

        def shares_of(part):
            names, _, distances = self._nearest(self.queries[part], self.k + 1, effort)
            distances[names == self.ids[part, None]] = np.inf
            distances = np.sort(distances, axis=1)[:, : self.k]
            return (distances <= self.reach[part, None] + _TOLERANCE).mean(axis=1)

        return judged_agreement(shares_of, len(self.ids), target)

    def milliseconds(self, effort: Any) -> float:
        """Milliseconds a query: the median of as many as take some seconds."""
        times = []
        for query in self.queries[:_TIMED_QUERIES]:
            start = time.perf_counter()
            self._nearest(query[None], self.k + 1, effort)
            times.append(time.perf_counter() - start)
            if sum(times) > _TIMED_SECONDS:
                break
        return 1000 * statistics.median(times)


def _ids(table):
    """The ids of a table, a batch of them in memory at a time."""
    for batch in table.search().select(["id"]).to_batches():
        yield from batch["id"].to_pylist()


def _drawn(ids, seed):
    """Draws some ids by the seed, the same in whatever order they come."""

    def place(one):
        return hashlib.blake2b(f"{seed} {one}".encode(), digest_size=8).digest()

    return heapq.nsmallest(_MOST_QUERIES, ids, key=place)
