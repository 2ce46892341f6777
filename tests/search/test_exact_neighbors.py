import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml._similarity import unit_rows
from keras_dml.search import ExactNeighbors
from tests.evaluation.brute_force import brute_force


@settings(max_examples=60)
@given(
    st.integers(1, 400),
    st.integers(1, 420),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
def test_ties_come_in_the_order_of_rows(count, k, width, tile_rows, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 8, (count, width), np.uint8)
    queries = rng.integers(0, 8, (7, width), np.uint8)
    index = ExactNeighbors()
    index.build(codes)
    with pytest.MonkeyPatch.context() as patch:
        tile_bytes = 4 * 64 * -(-count // 64) * tile_rows
        patch.setattr("keras_dml._similarity._TILE_BYTES", tile_bytes)
        ids, similarities = index.search(queries, k)
    expected = brute_force(queries, codes)
    order = np.argsort(-expected, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(similarities, np.take_along_axis(expected, order, 1))


def test_equal_rows_score_equally_wherever_they_are():
    row = np.random.default_rng(0).normal(size=37)
    index = ExactNeighbors()
    index.build(np.tile(row, (331, 1)))
    ids, similarities = index.search(row[None], 331)
    assert ids[0].tolist() == list(range(331))
    assert len(set(similarities[0].tolist())) == 1


@pytest.mark.parametrize("spread", [1, 1e-3, 1e-5, 0])
@pytest.mark.parametrize("k", [1, 4, 250])
def test_neighbors_are_those_of_exact_cosines_however_near(spread, k):
    rng = np.random.default_rng(2)
    rows = unit_rows(1 + spread * rng.normal(size=(300, 100)))
    index = ExactNeighbors()
    index.build(rows)
    ids, similarities = index.search(rows, k)
    unit = unit_rows(rows).astype(np.longdouble)
    cosines = (unit @ unit.T).astype(np.float32)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(similarities, np.take_along_axis(cosines, order, 1))


def test_a_huge_k_takes_no_memory_of_its_own():
    index = ExactNeighbors()
    index.build(np.eye(50))
    tracemalloc.start()
    try:
        index.search(np.eye(50), 10**9)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("k", [1, 3000])
def test_scores_take_bounded_memory_whatever_k_is(k, monkeypatch):
    monkeypatch.setattr("keras_dml._similarity._TILE_BYTES", 2**20)
    monkeypatch.setattr("keras_dml.search.neighbors._BLOCK_VALUES", 2**16)
    index = ExactNeighbors()
    embeddings = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    index.build(embeddings)
    tracemalloc.start()
    try:
        index.search(embeddings, k)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    result = 3000 * k * 12
    # All scores at once would be another 36 MB.
    assert peak < result + 6 * 2**20
