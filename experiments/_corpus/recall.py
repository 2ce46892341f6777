"""Recall@K of a corpus, measured part against part by the workers of Ray."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pathlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from experiments._corpus.shards import read_shard
from keras_dml.evaluation import Bars
from keras_dml.evaluation import Counts
from keras_dml.evaluation import merge_bars
from keras_dml.evaluation import merge_counts
from keras_dml.evaluation import recall_of_counts
from keras_dml.evaluation import shard_bars
from keras_dml.evaluation import shard_counts

_SHARDS_OF_A_PART = 50
_RETRIES = 10  # of a comparison whose worker or machine is lost


@dataclasses.dataclass(frozen=True)
class Part:
    """Some images of a corpus, which are compared with those of another part at once.

    Attributes:
        files: their shards.
        labels: int64 (images,).
        first: the number of the first image in the corpus.
    """

    files: tuple[pathlib.Path, ...]
    labels: np.ndarray
    first: int

    def rows(self, column: str) -> np.ndarray:
        """Reads the "embedding" or "code" of the images.

        Raises:
            OSError: if a shard is missing or damaged.
        """
        return np.concatenate(
            [read_shard(one, (column,))[column] for one in self.files]
        )

    @property
    def ids(self) -> np.ndarray:
        """The numbers of the images in the corpus."""
        return self.first + np.arange(len(self.labels))


def corpus_parts(files: Sequence[pathlib.Path]) -> list[Part]:
    """Cuts a corpus into parts of fifty shards, and numbers its classes.

    Args:
        files: all its shards.

    Raises:
        OSError: if a shard is missing or damaged.
        ValueError: if there are not two classes, and one with two images.
    """
    classes = [read_shard(file, ("class",))["class"].astype(str) for file in files]
    names, labels = np.unique(np.concatenate(classes), return_inverse=True)
    if len(names) < 2 or np.bincount(labels).max() < 2:
        raise ValueError(
            f"the corpus has {len(labels):,} images of {len(names):,} classes; "
            "Recall@K needs at least 2 classes, and one with 2 images. Classes are the "
            "folders below the one that --images named; a list or glob has none."
        )
    ends = np.cumsum([0, *map(len, classes)])
    return [
        Part(
            tuple(files[start : start + _SHARDS_OF_A_PART]),
            labels[ends[start] : ends[min(start + _SHARDS_OF_A_PART, len(files))]],
            int(ends[start]),
        )
        for start in range(0, len(files), _SHARDS_OF_A_PART)
    ]


def corpus_recall(
    parts: Sequence[Part], column: str, ks: Sequence[int] = (1, 2, 4, 8)
) -> dict[str, float]:
    """Gives the `recall_at_k` of all images of a corpus, bit for bit.

    Every image searches all others. A worker compares two parts at a time, on all cores
    of its machine, so it holds no more than those.

    Args:
        parts: those of `corpus_parts`.
        column: "embedding", compared by cosine, or "code", by Hamming distance.
        ks: the ranks K.

    Raises:
        OSError: if a shard is missing or damaged, or comparisons are lost again and
            again.
    """
    every = list(itertools.product(range(len(parts)), repeat=2))
    labels = [frozenset(part.labels.tolist()) for part in parts]
    related = [
        (i, j) for i, j in every if i == j or not labels[i].isdisjoint(labels[j])
    ]
    bar = keras.utils.Progbar(len(related) + len(every), unit_name="comparison")
    bars: dict[int, Bars] = {}
    counts: dict[int, Counts] = {}

    def find(i, j):
        return _find_bars, parts[i], parts[j], column

    def count(i, j):
        return _count, bars[i], parts[i], parts[j], column

    for (i, _), found in _on_ray(find, related):
        bars[i] = merge_bars([bars[i], found] if i in bars else [found])
        bar.add(1)
    for (i, _), found in _on_ray(count, every):
        counts[i] = merge_counts([counts[i], found] if i in counts else [found])
        bar.add(1)
    in_order = range(len(parts))
    return recall_of_counts(
        Bars(*map(np.concatenate, zip(*(bars[i] for i in in_order), strict=True))),
        Counts(*map(np.concatenate, zip(*(counts[i] for i in in_order), strict=True))),
        ks,
    )


def _find_bars(queries, gallery, column):
    return shard_bars(*_sides(queries, gallery, column))


def _count(bars, queries, gallery, column):
    return shard_counts(bars, *_sides(queries, gallery, column))


def _sides(queries, gallery, column):
    rows = queries.rows(column)
    others = rows if gallery.first == queries.first else gallery.rows(column)
    return rows, queries.labels, others, gallery.labels, queries.ids, gallery.ids


def _on_ray(
    call: Callable[..., tuple], items: Iterable[Any]
) -> Iterable[tuple[Any, Any]]:
    """Calls, for each item, the function and arguments that `call(*item)` gives.

    Gives (item, result) as results come.
    """
    import ray

    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes()]
    # The engine takes all cores of a machine, so one comparison has them all.
    options = {
        "num_cpus": max(1, min((count for count in cores if count), default=1)),
        "max_retries": _RETRIES,
    }
    # Once for each function, as Ray sends it to all machines each time.
    remote = functools.cache(lambda function: ray.remote(function).options(**options))
    items = iter(items)
    running: dict[Any, Any] = {}
    try:
        while True:
            # Two for each machine, so that none waits for this process.
            for item in itertools.islice(items, max(0, 2 * len(cores) - len(running))):
                function, *arguments = call(*item)
                running[remote(function).remote(*arguments)] = item
            if not running:
                return
            (task,), _ = ray.wait(list(running))
            item = running.pop(task)
            try:
                yield item, ray.get(task)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[0]
                raise OSError(
                    f"a comparison was lost again and again: {reason}"
                ) from None
    finally:
        for task in running:
            ray.cancel(task, force=True)
