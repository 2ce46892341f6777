import importlib
import json

import numpy as np
import pytest

from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import index_metrics
from keras_dml.evaluation import recall_at_k
from keras_dml.search import AnnoyNeighbors
from keras_dml.search import calibrated_neighbors
from tests.evaluation.brute_force import brute_force

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
    assert (metrics["recall@1"], metrics["recall@5"]) == tuple(expected.values())
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
    module = importlib.import_module("keras_dml.evaluation.index_metrics")
    monkeypatch.setattr(module, "_QUERIES_AT_ONCE", 70)
    parts = index_metrics(index, embeddings, LABELS)
    for name in ("recall@1", "recall@8", "agreement@1"):
        assert parts[name] == pytest.approx(whole[name])


def test_queries_search_the_gallery(embeddings):
    index = built(embeddings[80:], trees=20, search_k=10**5)
    parts = embeddings[:80], LABELS[:80], embeddings[80:], LABELS[80:]
    metrics = index_metrics(index, *parts, ks=(1, 500))
    expected = recall_at_k(*parts, ks=(1, 500))
    assert (metrics["recall@1"], metrics["recall@500"]) == tuple(expected.values())
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
