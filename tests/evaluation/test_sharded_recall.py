import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from keras_dml.evaluation import Bars
from keras_dml.evaluation import Counts
from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import merge_bars
from keras_dml.evaluation import merge_counts
from keras_dml.evaluation import recall_at_k
from keras_dml.evaluation import recall_of_counts
from keras_dml.evaluation import shard_bars
from keras_dml.evaluation import shard_counts
from keras_dml.evaluation._ranking import bounds
from keras_dml.evaluation._ranking import counting


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(counting, "SIDE", 64)
    monkeypatch.setattr(counting, "CODE_SIDE", 64)


def sharded(queries, labels, shards, ks=(1, 2, 4, 8), ties="expected"):
    """`shards` are (gallery, gallery_labels, query_ids, gallery_ids) each."""
    bars = merge_bars([shard_bars(queries, labels, *shard) for shard in shards])
    counts = merge_counts(
        [shard_counts(bars, queries, labels, *shard) for shard in shards]
    )
    return recall_of_counts(bars, counts, ks, ties)


def cut(parts, gallery, labels, query_ids=None, ids=None):
    return [
        (gallery[part], labels[part], query_ids, None if ids is None else ids[part])
        for part in parts
    ]


@st.composite
def retrievals(draw):
    """Few values and few dimensions, so that rows tie, are copies, or zero."""
    rows, dim = draw(st.integers(2, 40)), draw(st.integers(1, 4))
    small = st.integers(-2, 2)
    embeddings = draw(hnp.arrays(np.int8, (rows, dim), elements=small))
    labels = draw(hnp.arrays(np.int64, rows, elements=st.integers(0, 6)))
    shard_of = draw(hnp.arrays(np.int64, rows, elements=st.integers(0, 4)))
    parts = [np.flatnonzero(shard_of == shard) for shard in np.unique(shard_of)]
    kind = draw(st.sampled_from(["float32", "float16", "codes"]))
    if kind == "codes":
        return binary_codes(embeddings.astype(np.float32) - 0.5), labels, parts
    return embeddings.astype(kind), labels, parts


@given(retrievals(), st.sampled_from(["expected", "worst", "best"]), st.booleans())
def test_any_partition_gives_the_figures_of_the_whole(retrieval, ties, itself):
    rows, labels, parts = retrieval
    ks = (1, 2, 5, 50)
    ids = np.arange(len(rows))
    if itself:
        whole = recall_at_k(rows, labels, ks=ks, ties=ties)
        shards = cut(parts, rows, labels, ids, ids)
        assert sharded(rows, labels, shards, ks, ties) == whole
        return
    queries, query_labels = rows[::2], labels[::2]
    whole = recall_at_k(queries, query_labels, rows, labels, ks, ties)
    assert sharded(queries, query_labels, cut(parts, rows, labels), ks, ties) == whole


@pytest.mark.parametrize("least_pairs", [1, 2**62], ids=["bounds", "whole products"])
def test_bounds_leave_the_figures_as_they_are(monkeypatch, least_pairs):
    monkeypatch.setattr(bounds, "_LEAST_PAIRS", least_pairs)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 80, 1500)
    scales = np.arange(1, 65) ** -0.8
    rows = rng.normal(size=(80, 64))[labels] + rng.normal(size=(1500, 64))
    rows = (rows * scales).astype(np.float32)
    rows[-200:] = rows[:200]  # in other classes, so that they tie
    parts = np.array_split(rng.permutation(1500), 3)
    ids = np.arange(1500)
    whole = recall_at_k(rows, labels)
    assert 0.05 < whole["recall@1"] < 0.95
    assert sharded(rows, labels, cut(parts, rows, labels, ids, ids)) == whole


def test_queries_can_be_cut_too():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 300)
    rows = rng.normal(size=(20, 8))[labels] + rng.normal(size=(300, 8))
    gallery, gallery_labels = rows[100:], labels[100:]
    shards = cut([slice(0, 90), slice(90, 200)], gallery, gallery_labels)
    parts = []
    for some in (slice(0, 64), slice(64, 100)):
        bars = merge_bars([shard_bars(rows[some], labels[some], *s) for s in shards])
        parts.append(
            (
                bars,
                merge_counts(
                    [shard_counts(bars, rows[some], labels[some], *s) for s in shards]
                ),
            )
        )
    bars, counts = zip(*parts, strict=True)
    joined = (
        Bars(*map(np.concatenate, zip(*bars, strict=True))),
        Counts(*map(np.concatenate, zip(*counts, strict=True))),
    )
    whole = recall_at_k(rows[:100], labels[:100], gallery, gallery_labels)
    assert recall_of_counts(*joined) == whole


def test_bars_and_counts_by_hand():
    queries = np.array([[1.0, 0.0], [0.0, 1.0]])
    first = [[0.6, 0.8], [1.0, 0.0]], ["a", "b"]
    second = [[0.6, 0.8], [0.8, 0.6], [0.0, 2.0]], ["a", "b", "c"]
    bars = [shard_bars(queries, ["a", "z"], *shard) for shard in (first, second)]
    for one in bars:
        np.testing.assert_array_equal(one.nearness, np.float32([0.6, -np.inf]))
        np.testing.assert_array_equal(one.positives, [1, 0])
    merged = merge_bars(bars)
    np.testing.assert_array_equal(merged.positives, [2, 0])
    counts = shard_counts(merged, queries, ["a", "z"], *second)
    np.testing.assert_array_equal(counts.above, [1, 0])
    np.testing.assert_array_equal(counts.tied, [0, 0])


def test_codes_have_minus_their_hamming_distance():
    queries = np.array([[0b1111_0000]], np.uint8)
    gallery = np.array([[0b1111_0001], [0b0000_0000], [0b1111_0000]], np.uint8)
    bars = shard_bars(queries, [7], gallery, [7, 7, 3])
    assert (bars.nearness.tolist(), bars.positives.tolist()) == ([-1.0], [1])
    counts = shard_counts(bars, queries, [7], gallery, [7, 7, 3])
    assert (counts.above.tolist(), counts.tied.tolist()) == ([1], [0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: merge_bars([]), "no bars to merge"),
        (lambda: merge_counts([]), "no counts to merge"),
        (lambda: shard_bars([[1.0]], [0], None, None), "must be a shard"),
        (lambda: merge_bars(Bars(np.ones(2), np.ones(2))), "must be a list"),
        (
            lambda: shard_counts(
                Bars(np.float32([0.5]), np.ones(1)),
                *(np.uint8([[3]]), [0], np.uint8([[3]]), [0]),
            ),
            r"bars must be minus Hamming distances, as .* uint8 .*; got 0\.5",
        ),
        (
            lambda: shard_counts(
                Bars(np.float32([-3]), np.ones(1)), [[1.0]], [0], [[1.0]], [0]
            ),
            r"bars must be cosines, .*; got -3",
        ),
        (
            lambda: shard_counts(
                Bars(np.float32([np.nan]), np.ones(1)), [[1.0]], [0], [[1.0]], [0]
            ),
            "bars must be cosines, .*; got nan",
        ),
        (
            lambda: merge_bars([Bars(np.ones(2), np.ones(2)), Bars(*np.ones((2, 3)))]),
            "of the same queries",
        ),
        (
            lambda: shard_counts(
                Bars(np.ones(2), np.ones(2)), [[1.0]], [0], [[1.0]], [0]
            ),
            "bars are of 2 queries, and there are 1",
        ),
        (
            lambda: recall_of_counts(
                Bars(np.ones(2), np.ones(2)), Counts(np.ones(3), np.ones(3))
            ),
            "bars are of 2 queries, and counts of 3",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
