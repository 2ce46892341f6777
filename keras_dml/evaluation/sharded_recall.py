"""Exact Recall@K of a gallery in parts, such as one larger than a machine."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_choice
from keras_dml._checks import checked_ks
from keras_dml._checks import checked_pair
from keras_dml.evaluation._labels import pair_classes
from keras_dml.evaluation._labels import pair_ids
from keras_dml.evaluation._ranking.counting import best_positives
from keras_dml.evaluation._ranking.counting import negatives_at
from keras_dml.evaluation._ranking.figures import TIES
from keras_dml.evaluation._ranking.figures import hit_probability


class Bars(NamedTuple):
    """How near the nearest gallery image of each query's class is.

    Attributes:
        nearness: float32 (n,), its cosine, or minus its Hamming distance; −∞ for a
            query without an image of its class.
        positives: int64 (n,), how many images of the class are exactly as near.
    """

    nearness: np.ndarray
    positives: np.ndarray


class Counts(NamedTuple):
    """How many gallery images of other classes come before each query's bar.

    Attributes:
        above: int64 (n,), those nearer than the bar.
        tied: int64 (n,), those exactly as near.
    """

    above: np.ndarray
    tied: np.ndarray


def shard_bars(
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    query_ids: npt.ArrayLike | None = None,
    gallery_ids: npt.ArrayLike | None = None,
) -> Bars:
    """Finds each query's nearest image of its class in one shard of the gallery.

    The first of four steps to the Recall@K of a gallery that is measured in parts, on
    one machine after another or on several at once: the bars of each shard,
    `merge_bars`, the counts of each shard at the merged bars (`shard_counts`), and
    `merge_counts`. `recall_of_counts` gives the figures, which are those of
    `recall_at_k` over the whole gallery bit for bit, however it is cut.

    Args:
        queries: (n, dim) float16, bfloat16, float32 or float64, compared by cosine, or
            (n, bytes) uint8 packed codes, compared by Hamming distance.
        query_labels: (n,) integers of any size, or strings.
        gallery: (m, dim) or (m, bytes), the shard; may be memory-mapped.
        gallery_labels: (m,).
        query_ids: (n,) integers or strings. A gallery image with the id of the query is
            not compared with it. Where the queries are the gallery, the ids are what
            leaves each of them out of its own results.
        gallery_ids: (m,); given exactly when `query_ids` are.

    Returns:
        The bars of this shard.

    Raises:
        ValueError: if embeddings are empty or not finite, or the shapes, types, labels
            or ids do not fit together.

    Example:
        >>> embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.5, 0.6]])
        >>> labels = np.array(["cat", "cat", "dog", "cat"])
        >>> ids = np.arange(4)
        >>> halves = [
        ...     (embeddings[part], labels[part], ids, ids[part])
        ...     for part in (slice(0, 2), slice(2, 4))
        ... ]
        >>> bars = merge_bars(shard_bars(embeddings, labels, *half) for half in halves)
        >>> counts = merge_counts(
        ...     shard_counts(bars, embeddings, labels, *half) for half in halves
        ... )
        >>> recall_of_counts(bars, counts, ks=(1, 2))
        {'recall@1': 0.5, 'recall@2': 0.75}
        >>> recall_at_k(embeddings, labels, ks=(1, 2))
        {'recall@1': 0.5, 'recall@2': 0.75}
    """
    return Bars(
        *best_positives(
            *_checked(
                queries, query_labels, gallery, gallery_labels, query_ids, gallery_ids
            )
        )
    )


def merge_bars(bars: Iterable[Bars]) -> Bars:
    """Merges the bars of the same queries in several shards, in any order.

    Args:
        bars: one or more.

    Returns:
        The bars in all these shards together.

    Raises:
        ValueError: if there are none, or they are not of equally many queries.
    """
    nearness, positives = _stacked(bars, "bars")
    nearest = nearness.max(axis=0)
    return Bars(nearest, (positives * (nearness == nearest)).sum(axis=0))


def shard_counts(
    bars: Bars,
    queries: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    query_ids: npt.ArrayLike | None = None,
    gallery_ids: npt.ArrayLike | None = None,
) -> Counts:
    """Counts the images of other classes in one shard that come before the bars.

    Args:
        bars: those of the whole gallery, by `merge_bars`.
        queries: as for `shard_bars`, as are the next five.
        query_labels: (n,).
        gallery: (m, dim) or (m, bytes).
        gallery_labels: (m,).
        query_ids: (n,).
        gallery_ids: (m,).

    Returns:
        The counts of this shard.

    Raises:
        ValueError: as by `shard_bars`; or if bars are not of as many queries.
    """
    checked = _checked(
        queries, query_labels, gallery, gallery_labels, query_ids, gallery_ids
    )
    bars = Bars(*bars)
    if len(bars.nearness) != len(checked[0]):
        raise ValueError(
            f"bars are of {len(bars.nearness):,} queries, and there are "
            f"{len(checked[0]):,}. Give the bars of these queries, in their order."
        )
    nearness = np.asarray(bars.nearness, np.float32)
    _check_kind(nearness, checked[0])
    return Counts(*negatives_at(nearness, *checked))


def merge_counts(counts: Iterable[Counts]) -> Counts:
    """Adds the counts of the same queries in several shards, in any order.

    Args:
        counts: one or more, all at the same bars.

    Returns:
        The counts in all these shards together.

    Raises:
        ValueError: if there are none, or they are not of equally many queries.
    """
    return Counts(*(one.sum(axis=0) for one in _stacked(counts, "counts")))


def recall_of_counts(
    bars: Bars,
    counts: Counts,
    ks: Sequence[int] = (1, 2, 4, 8),
    ties: str = "expected",
) -> dict[str, float]:
    """Gives the Recall@K that `recall_at_k` gives for the whole gallery.

    Args:
        bars: of all queries in the whole gallery, by `merge_bars`.
        counts: likewise, by `merge_counts`.
        ks: the ranks K, distinct and at least 1.
        ties: "expected", "worst" or "best", as for `recall_at_k`.

    Returns:
        {"recall@1": ..., ...} for each K in the order of `ks`, in 0 … 1.

    Raises:
        ValueError: if bars and counts are not of equally many queries, or ks or ties
            are out of range.
    """
    ks = checked_ks(ks)
    ties = checked_choice(ties, "ties", TIES)
    bars, counts = Bars(*bars), Counts(*counts)
    if len(bars.positives) != len(counts.above):
        raise ValueError(
            f"bars are of {len(bars.positives):,} queries, and counts of "
            f"{len(counts.above):,}. Give those of the same queries."
        )
    # Beyond all that come first a larger K changes nothing.
    most = int((counts.above + counts.tied + bars.positives).max())
    recalls = np.array(
        [hit_probability(*counts, bars.positives, min(k, most), ties) for k in ks]
    )
    names = [f"recall@{k}" for k in ks]
    return dict(zip(names, recalls.mean(axis=1).tolist(), strict=True))


def _checked(queries, query_labels, gallery, gallery_labels, query_ids, gallery_ids):
    if gallery is None:
        raise ValueError(
            "gallery must be a shard of the gallery, an array of embeddings; got None. "
            "Where queries search one another give them as the shards, with ids."
        )
    queries, gallery = checked_pair(queries, gallery)
    classes = pair_classes(queries, query_labels, gallery, gallery_labels)
    same = pair_ids(queries, query_ids, gallery, gallery_ids)
    return queries, classes[0], gallery, classes[1], same


def _check_kind(nearness, queries):
    """Checks that bars may be those of such queries."""
    known = nearness[nearness != -np.inf]
    are_codes = queries.dtype == np.uint8
    least, most = (-8 * queries.shape[1], 0) if are_codes else (-1.0001, 1.0001)
    fit = (known >= least) & (known <= most)
    if are_codes:
        fit &= known == np.round(known)
    if not fit.all():
        kind = "minus Hamming distances" if are_codes else "cosines"
        raise ValueError(
            f"bars must be {kind}, as queries of dtype {queries.dtype} have them; got "
            f"{known[~fit][0]}. Give shard_bars and shard_counts the same queries."
        )


def _stacked(parts, name):
    parts = list(parts)
    if parts and not isinstance(parts[0], tuple):
        raise ValueError(
            f"{name} must be a list of those of several shards; got {type(parts[0])}."
        )
    if not parts:
        raise ValueError(
            f"there are no {name} to merge; give those of one shard or more."
        )
    sizes = {len(one) for part in parts for one in part}
    if len(sizes) > 1:
        raise ValueError(
            f"{name} to merge must be of the same queries; got {sorted(sizes)} of them."
        )
    return (np.stack(arrays) for arrays in zip(*parts, strict=True))
