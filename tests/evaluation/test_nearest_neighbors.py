import numpy as np
import pytest
import sklearn.neighbors
from hypothesis import given
from hypothesis import strategies as st

from keras_dml.evaluation import nearest_neighbors


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gallery_search_agrees_with_scikit_learn(k, dtype):
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(30, 16)).astype(dtype)
    gallery = rng.normal(size=(40, 16)).astype(dtype)
    reference = sklearn.neighbors.NearestNeighbors(metric="cosine").fit(gallery)
    distances, expected = reference.kneighbors(queries, k)
    ids, similarities = nearest_neighbors(queries, gallery, k)
    assert (ids.dtype, similarities.dtype) == (np.int64, np.float32)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(similarities, 1 - distances, atol=1e-6)


def test_self_search_agrees_with_scikit_learn():
    embeddings = np.random.default_rng(0).normal(size=(50, 16))
    reference = sklearn.neighbors.NearestNeighbors(metric="cosine").fit(embeddings)
    ids, _ = nearest_neighbors(embeddings, k=7)
    np.testing.assert_array_equal(ids, reference.kneighbors(n_neighbors=7)[1])


@given(
    st.lists(st.integers(0, 255), min_size=2, max_size=12),
    st.integers(1, 11),
    st.integers(1, 5),
)
def test_tied_rows_come_in_order_of_their_ids(rows, k, tile_rows):
    k = min(k, len(rows) - 1)
    distance = [[(a ^ b).bit_count() for b in rows] for a in rows]
    expected = [
        sorted((d, other) for other, d in enumerate(line) if other != row)[:k]
        for row, line in enumerate(distance)
    ]
    with pytest.MonkeyPatch.context() as patch:
        tile_bytes = 4 * 64 * tile_rows
        patch.setattr("keras_dml._similarity._TILE_BYTES", tile_bytes)
        ids, similarities = nearest_neighbors(np.array(rows, np.uint8)[:, None], k=k)
    assert ids.tolist() == [[row for _, row in line] for line in expected]
    assert similarities.tolist() == [[-d for d, _ in line] for line in expected]


def test_query_is_left_out_by_identity_among_its_duplicates():
    ids, similarities = nearest_neighbors(np.array([[1.0], [1.0], [1.0]]), k=2)
    assert ids.tolist() == [[1, 2], [0, 2], [0, 1]]
    assert similarities.tolist() == [[1.0, 1.0]] * 3


@pytest.mark.parametrize(
    ("gallery", "k", "message"),
    [
        (None, 3, "k must be at most 2, the images there are to find; got 3"),
        (np.eye(3), 4, "k must be at most 3"),
        (None, 0, "k must be an integer of at least 1; got 0"),
        (None, 1.0, "k must be an integer"),
    ],
)
def test_k_out_of_range_is_refused(gallery, k, message):
    with pytest.raises(ValueError, match=message):
        nearest_neighbors(np.eye(3), gallery, k)
