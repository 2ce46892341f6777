import json
import sys

import numpy as np
import pytest

from keras_dml.evaluation import agreement
from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import index_metrics
from keras_dml.evaluation import nearest_neighbors
from keras_dml.evaluation import recall_at_k
from keras_dml.evaluation import recall_of_neighbors
from keras_dml.evaluation import without_self
from keras_dml.search import AnnoyNeighbors
from keras_dml.search import calibrated_neighbors
from tests.evaluation.brute_force import brute_force

# `keras_dml.evaluation.index_metrics` is the function, which hides the module.
module = sys.modules[index_metrics.__module__]

LABELS = np.arange(240) % 15


@pytest.fixture
def embeddings():
    rng = np.random.default_rng(0)
    return rng.normal(size=(15, 16))[LABELS] + rng.normal(size=(240, 16))


def built(rows, **settings):
    index = AnnoyNeighbors(**settings)
    index.build(rows)
    return index


def test_exhaustive_index_gives_the_exact_recall_and_agrees(embeddings):
    index = built(embeddings, trees=20, search_k=10**5)
    metrics = index_metrics(index, embeddings, LABELS, ks=(1, 5))
    expected = recall_at_k(embeddings, LABELS, ks=(1, 5))
    assert {name: metrics[name] for name in expected} == expected
    assert metrics["agreement@1"] == metrics["agreement@5"] == 1.0
    assert metrics["ms_per_query"] > 0 < metrics["exact_ms_per_query"]
    assert metrics["parameters"] == {"trees": 20, "search_k": 10**5, "seed": 0}
    assert (metrics["kind"], metrics["calibration"]) == ("annoy", None)


def test_agreement_is_that_of_brute_force_where_the_index_misses(embeddings):
    index = built(embeddings, trees=1, search_k=1)
    metrics = index_metrics(index, embeddings, LABELS, ks=(3,))
    scores = brute_force(embeddings, embeddings)
    np.fill_diagonal(scores, -2)
    ids, _ = index.search(embeddings, 4)
    shares = {1: [], 3: []}
    for query, row in enumerate(ids):
        others = [i for i in row if i not in (query, -1)][:3]
        ranked = np.argsort(-scores[query])
        for k, found in shares.items():
            found.append(len(set(others[:k]) & set(ranked[:k])) / k)
    assert metrics["agreement@1"] == pytest.approx(np.mean(shares[1]))
    assert metrics["agreement@3"] == pytest.approx(np.mean(shares[3]))
    assert metrics["agreement@3"] < 0.9


def test_blocks_of_queries_join_without_a_seam(embeddings, monkeypatch):
    index = built(embeddings, trees=1, search_k=5)
    whole = index_metrics(index, embeddings, LABELS)
    monkeypatch.setattr(module, "_QUERIES_AT_ONCE", 70)
    parts = index_metrics(index, embeddings, LABELS)
    for name in ("recall@1", "recall@8", "agreement@1"):
        assert parts[name] == pytest.approx(whole[name])


def test_queries_search_the_gallery(embeddings):
    index = built(embeddings[80:], trees=20, search_k=10**5)
    parts = embeddings[:80], LABELS[:80], embeddings[80:], LABELS[80:]
    metrics = index_metrics(index, *parts, ks=(1, 500))
    expected = recall_at_k(*parts, ks=(1, 500))
    assert {name: metrics[name] for name in expected} == expected
    assert metrics["agreement@160"] == 1.0


def test_index_of_codes_is_searched_with_codes(embeddings):
    codes = binary_codes(embeddings)
    index = built(codes, trees=20, search_k=10**5)
    metrics = index_metrics(index, embeddings, LABELS, ks=(1, 5))
    assert metrics["metric"] == "hamming"
    assert metrics["agreement@1"] == metrics["agreement@5"] == 1.0
    assert index_metrics(index, codes, LABELS)["recall@1"] == metrics["recall@1"]


def test_calibration_comes_along_and_json_keeps_it(embeddings):
    index = calibrated_neighbors("annoy", embeddings, 8)
    metrics = index_metrics(index, embeddings, LABELS.astype(str))
    assert metrics["calibration"]["agreement"] == index.calibration.agreement
    assert json.loads(json.dumps(metrics)) == metrics


@pytest.mark.parametrize(
    ("query_labels", "gallery", "gallery_labels", "message"),
    [
        (LABELS[:9], True, LABELS, r"query_labels must have shape \(10,\)"),
        (LABELS[:9], False, None, r"query_labels must have shape \(10,\)"),
        (LABELS[:10], True, LABELS[1:], r"gallery_labels must have shape \(240,\)"),
        (LABELS[:10], True, [0, *LABELS], r"gallery_labels must have shape \(240,\)"),
        (LABELS[:10], True, None, "go together; got only gallery"),
        (LABELS[:10], False, LABELS, "go together; got only gallery_labels"),
        (LABELS[:10], True, LABELS.astype(str), "must be of one kind"),
    ],
)
def test_labels_that_do_not_fit_the_rows_are_refused(
    embeddings, query_labels, gallery, gallery_labels, message
):
    index = built(embeddings if gallery else embeddings[:10])
    gallery = embeddings if gallery else None
    with pytest.raises(ValueError, match=message):
        index_metrics(index, embeddings[:10], query_labels, gallery, gallery_labels)


def test_lone_row_without_a_gallery_is_refused(embeddings):
    with pytest.raises(ValueError, match="queries has one row, and so nothing to find"):
        index_metrics(built(embeddings[:1]), embeddings[:1], LABELS[:1])


@pytest.mark.parametrize(
    ("ids", "rows", "message"),
    [
        (None, 200, "must hold the 240 rows that are searched.*it holds 200"),
        (np.arange(240), 240, "with ids of their own"),
    ],
)
def test_index_of_other_rows_is_refused(embeddings, ids, rows, message):
    index = AnnoyNeighbors()
    index.build(embeddings[:rows], ids)
    with pytest.raises(ValueError, match=message):
        index_metrics(index, embeddings, LABELS)


QUERIES = np.array([[1.0, 0.0], [0.0, 1.0]])
# Row 1 is row 0 at twice the length, row 2 the same to 1e-4, row 3 far off.
GALLERY = np.array([[3.0, 4.0], [6.0, 8.0], [3.0, 4.0003], [-1.0, -1.0]])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([0, 0], [1, 1]),
        ([1, 0], [1, 1]),
        ([2, 0], [0, 1]),
        ([3, 3], [0, 0]),
        ([-1, 0], [0, 1]),
    ],
    ids=["the same", "a duplicate", "a little farther", "far off", "nothing found"],
)
def test_neighbors_agree_when_they_are_as_near(found, expected):
    shares = agreement(np.array(found)[:, None], [[0], [0]], QUERIES, GALLERY)
    assert shares.tolist() == expected


def test_nothing_found_is_not_the_last_row():
    assert agreement([[-1]], [[0]], [[1.0]], [[1.0]]) == 0.0


def test_tolerance_is_the_callers():
    found, exact = [[2], [0]], [[0], [0]]
    assert agreement(found, exact, QUERIES, GALLERY, tolerance=1e-3).mean() == 1.0


def test_ids_number_the_queries_without_a_gallery():
    embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    shares = agreement([[1], [0], [0]], [[1], [0], [1]], embeddings)
    assert shares.tolist() == [1, 1, 0]


@pytest.mark.parametrize("kind", ["embeddings", "codes"])
def test_share_of_k_is_that_of_the_k_nearest_sets(kind, monkeypatch):
    rng = np.random.default_rng(0)
    if kind == "codes":
        queries, gallery = (rng.integers(0, 256, (n, 9), np.uint8) for n in (20, 50))
    else:
        queries, gallery = rng.normal(size=(20, 4)), rng.normal(size=(50, 4))
    scores = brute_force(queries, gallery)
    exact = np.argsort(-scores, axis=1)[:, :6]
    found = np.array([rng.permutation(50)[:6] for _ in queries])
    expected = [
        np.mean(line[row] >= line[best].min())
        for line, row, best in zip(scores, found, exact, strict=True)
    ]
    np.testing.assert_allclose(agreement(found, exact, queries, gallery), expected)
    assert 0 < np.mean(expected) < 1
    monkeypatch.setattr(module, "_BLOCK_VALUES", 100)
    np.testing.assert_allclose(agreement(found, exact, queries, gallery), expected)


@pytest.mark.parametrize(
    ("found", "exact", "message"),
    [
        ([[0]], [[0], [0]], r"found_ids must be integers of shape \(2, k\)"),
        ([[0], [0]], [0, 0], r"exact_ids must be integers of shape \(2, k\)"),
        ([[0.0], [0.0]], [[0], [0]], "found_ids must be integers"),
        ([[0], [4]], [[0], [0]], "found_ids must lie in -1 … 3"),
        ([[0], [0]], [[0], [-1]], "exact_ids must lie in 0 … 3"),
        ([[0], [0]], [[0, 1], [0, 1]], "of one shape"),
        ([[0, 1], [2, 2]], [[0, 1], [0, 1]], "found_ids .* row 1 holds 2 twice"),
        ([[0, 1], [0, 1]], [[3, 3], [0, 1]], "exact_ids .* row 0 holds 3 twice"),
    ],
)
def test_ids_that_number_no_row_are_refused(found, exact, message):
    with pytest.raises(ValueError, match=message):
        agreement(found, exact, QUERIES, GALLERY)


def test_several_neighbors_may_be_missing():
    shares = agreement([[0, -1, -1]], [[0, 1, 2]], QUERIES[:1], GALLERY)
    assert shares.tolist() == [1 / 3]


@pytest.mark.parametrize(
    "tolerance", [np.nan, np.inf, -1e-6, True, None, "1e-6", [1e-6]]
)
def test_tolerance_that_is_no_number_of_at_least_0_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a number"):
        agreement([[0], [0]], [[0], [0]], QUERIES, GALLERY, tolerance)


def test_hand_worked_recall_of_neighbors():
    ids = [[0, 1, 2], [1, 0, 2], [2, -1, -1], [-1, -1, -1]]
    found = recall_of_neighbors(ids, [5, 5, 5, 7], [5, 6, 7], ks=(3, 1, 2))
    assert found == {"recall@3": 0.5, "recall@1": 0.25, "recall@2": 0.5}
    assert list(found) == ["recall@3", "recall@1", "recall@2"]


def test_missing_neighbor_is_not_the_last_row_of_the_gallery():
    assert recall_of_neighbors([[-1]], [7], [5, 7], ks=(1,)) == {"recall@1": 0.0}


def test_recall_of_exact_neighbors_is_the_exact_recall():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 100)
    embeddings = rng.normal(size=(20, 16))[labels] + rng.normal(size=(100, 16))
    ids, _ = nearest_neighbors(embeddings, k=8)
    assert recall_of_neighbors(ids, labels, labels) == pytest.approx(
        recall_at_k(embeddings, labels)
    )


def test_large_labels_of_neighbors_do_not_collide():
    assert recall_of_neighbors([[0]], [2**53], [2**53 + 1], ks=(1,)) == {
        "recall@1": 0.0
    }


def test_query_is_taken_out_by_its_id_wherever_it_stands():
    ids = [[4, 1, 2], [0, 4, 2], [0, 1, 4]]
    assert without_self(ids, [4, 4, 4]).tolist() == [[1, 2], [0, 2], [0, 1]]


def test_query_that_was_not_found_costs_the_last_neighbor():
    assert without_self([[0, 1, 2], [3, -1, -1]], [9, 9]).tolist() == [[0, 1], [3, -1]]


@pytest.mark.parametrize(
    ("ids", "query_labels", "gallery_labels", "ks", "message"),
    [
        ([[0]], [1], [1], (2,), "ks asks for 2 neighbors, but ids has 1 a query"),
        ([[2]], [1], [1, 2], (1,), "ids must lie in -1 … 1"),
        ([[-2]], [1], [1, 2], (1,), "ids must lie in -1 … 1"),
        (np.array([[2**64 - 1]], np.uint64), [1], [1], (1,), "ids must lie in -1 … 0"),
        ([[0.0]], [1], [1], (1,), "ids must be integers"),
        ([0], [1], [1], (1,), "ids must be integers of shape"),
        ([[0]], [1, 2], [1], (1,), r"query_labels must have shape \(1,\)"),
        ([[0]], [1], [[1]], (1,), "gallery_labels must have shape"),
        ([[-1]], [1], [], (1,), "gallery_labels is empty"),
        ([[0]], [1], [1], (0,), "ks holds 0"),
    ],
)
def test_neighbors_that_do_not_fit_the_labels_are_refused(
    ids, query_labels, gallery_labels, ks, message
):
    with pytest.raises(ValueError, match=message):
        recall_of_neighbors(ids, query_labels, gallery_labels, ks)


@pytest.mark.parametrize(("ids", "own"), [([[0]], [0]), ([[0, 1]], [0, 1]), ([0], [0])])
def test_query_cannot_be_left_out_of_what_does_not_fit(ids, own):
    with pytest.raises(ValueError, match="ids must"):
        without_self(ids, own)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (["0", "1"], "must be integers"),
        ([None, None], "must be integers"),
        ([0.0, np.nan], "must be integers"),
        ([0.0, 1.0], "must be integers"),
        ([False, True], "must be integers"),
        ([0, -1], "must lie in 0"),
        ([2**63, 2**63], "must lie in 0"),
    ],
)
def test_own_ids_that_name_no_row_are_refused(own, message):
    with pytest.raises(ValueError, match=f"own_ids {message}"):
        without_self([[0, 1, -1], [1, 0, -1]], own)


@pytest.mark.parametrize("ids", [[[1, 2, 0], [0, 1, 0]], [[1, 2, 3], [2, 0, 0]]])
def test_id_twice_in_a_row_is_refused(ids):
    with pytest.raises(ValueError, match="id twice in a row; row 1 holds 0 twice"):
        without_self(ids, [1, 0])


def test_id_beyond_int64_does_not_wrap():
    ids = np.array([[0, 2**64 - 1]], np.uint64)
    with pytest.raises(ValueError, match="ids must lie in -1 … 9223372036854775807"):
        without_self(ids, [0])


def test_unsigned_own_ids_are_matched():
    own = np.array([2**62 + 1], np.uint64)
    assert without_self([[2**62, 2**62 + 1]], own).tolist() == [[2**62]]


@pytest.mark.parametrize("index", [None, "annoy"])
def test_what_is_no_index_is_refused(embeddings, index):
    with pytest.raises(ValueError, match=f"index must be an index of .*got {index!r}"):
        index_metrics(index, embeddings, LABELS)
