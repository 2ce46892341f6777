import json

import numpy as np
import pytest

from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import index_metrics
from keras_dml.evaluation import k_means
from keras_dml.evaluation import normalized_mutual_information
from keras_dml.evaluation import ranking_metrics
from keras_dml.evaluation import recall_at_k
from keras_dml.evaluation import retrieval_metrics
from keras_dml.search import AnnoyNeighbors
from keras_dml.search import ExactNeighbors

LABELS = np.random.default_rng(1).integers(0, 15, 120)


@pytest.fixture(scope="module")
def embeddings():
    rng = np.random.default_rng(0)
    return rng.normal(size=(15, 24))[LABELS] + 1.5 * rng.normal(size=(120, 24))


def named(recalls):
    return {f"recall@{k}": pytest.approx(share) for k, share in recalls.items()}


def exact(*arguments):
    """The exact figures, which have tests of their own, without the counts."""
    figures = ranking_metrics(*arguments)["all"]
    del figures["queries"], figures["lone_queries"]
    return figures


def exhaustive(rows):
    index = AnnoyNeighbors(trees=10, search_k=10**5)
    index.build(rows)
    return index


def untimed(figures):
    times = ("ms_per_query", "exact_ms_per_query")
    return {name: value for name, value in figures.items() if name not in times}


def test_self_retrieval_reports_the_three_searches(embeddings):
    index = exhaustive(embeddings)
    metrics = retrieval_metrics(embeddings, LABELS, ks=(1, 5), index=index)
    by_index = index_metrics(index, embeddings, LABELS, ks=(1, 5))
    assert untimed(metrics.pop("index")) == untimed(by_index)
    assert metrics == {
        "float": exact(embeddings, LABELS, None, None, (1, 5)),
        "binary": exact(binary_codes(embeddings), LABELS, None, None, (1, 5)),
        "images": 120,
        "classes": 15,
        "lone_queries": 0,
    }


def test_queries_search_the_gallery_alone(embeddings):
    is_query = np.arange(120) % 3 == 0
    index = exhaustive(embeddings[~is_query])
    metrics = retrieval_metrics(embeddings, LABELS, is_query, (1, 5), index)
    parts = embeddings[is_query], LABELS[is_query]
    gallery = embeddings[~is_query], LABELS[~is_query]
    by_cosine = recall_at_k(*parts, *gallery, ks=(1, 5))
    codes = (
        binary_codes(parts[0]),
        parts[1],
        binary_codes(gallery[0]),
        gallery[1],
    )
    assert metrics["float"] == exact(*parts, *gallery, (1, 5))
    assert metrics["binary"] == exact(*codes, (1, 5))
    assert metrics["index"]["recall@5"] == pytest.approx(by_cosine[5])
    assert metrics["index"]["agreement@1"] == 1.0
    assert (metrics["images"], metrics["classes"]) == (120, 15)


def test_exact_index_adds_nothing(embeddings):
    index = ExactNeighbors()
    index.build(embeddings)
    assert "index" not in retrieval_metrics(embeddings, LABELS, index=index)


def test_agreement_falls_when_the_index_inspects_too_little(embeddings):
    index = AnnoyNeighbors(trees=1, search_k=1)
    index.build(embeddings)
    metrics = retrieval_metrics(embeddings, LABELS, index=index)
    assert metrics["index"]["agreement@1"] < 0.9
    assert metrics["index"]["parameters"]["search_k"] == 1


@pytest.mark.parametrize("is_query", [None, np.arange(120) % 3 == 0])
def test_nmi_is_that_of_all_images_in_as_many_clusters_as_classes(embeddings, is_query):
    metrics = retrieval_metrics(embeddings, LABELS, is_query, seed=5, nmi_starts=3)
    clusters, library = k_means(embeddings, 15, starts=3, seed=5)
    assert metrics["clustering"] == {
        "nmi": normalized_mutual_information(LABELS, clusters),
        "clusters": 15,
        "starts": 3,
        "library": library,
    }
    assert 0.3 < metrics["clustering"]["nmi"] < 1


def test_metrics_are_plain_numbers_that_json_keeps(embeddings):
    index = exhaustive(embeddings)
    metrics = retrieval_metrics(
        embeddings, LABELS, None, np.array([1, 500]), index, nmi_starts=1
    )
    assert json.loads(json.dumps(metrics)) == metrics
    assert list(metrics["float"]) == [
        "recall@1",
        "recall@500",
        "mrr",
        "r_precision",
        "map@r",
    ]


def test_queries_without_another_image_are_counted(embeddings):
    labels = np.append(LABELS[:-2], [100, 101])
    assert retrieval_metrics(embeddings, labels)["lone_queries"] == 2


def test_list_of_labels_below_and_beyond_int64_is_measured_as_such(embeddings):
    labels = [2**63 + label if label > 7 else label for label in LABELS.tolist()]
    settings = {"index": exhaustive(embeddings), "nmi_starts": 1}
    metrics = retrieval_metrics(embeddings, labels, **settings)
    expected = retrieval_metrics(embeddings, LABELS, **settings)
    assert untimed(metrics.pop("index")) == untimed(expected.pop("index"))
    assert metrics == expected


def test_string_labels_are_counted_as_classes(embeddings):
    metrics = retrieval_metrics(embeddings, LABELS.astype(str), nmi_starts=1)
    assert metrics["classes"] == metrics["clustering"]["clusters"] == 15


@pytest.mark.parametrize(
    ("is_query", "message"),
    [
        (np.zeros(120, int), "is_query must be booleans"),
        (np.zeros(119, bool), r"is_query must be booleans of shape \(120,\)"),
        (np.zeros(120, bool), "marks 0 of 120 images"),
        (np.ones(120, bool), "marks 120 of 120 images"),
    ],
)
def test_split_without_queries_or_gallery_is_refused(embeddings, is_query, message):
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(embeddings, LABELS, is_query)


def test_a_single_image_is_refused():
    with pytest.raises(ValueError, match="embeddings must have at least 2 rows"):
        retrieval_metrics(np.ones((1, 3)), [0])


def test_negative_number_of_starts_is_refused(embeddings):
    with pytest.raises(ValueError, match="nmi_starts must be an integer, at least 0"):
        retrieval_metrics(embeddings, LABELS, nmi_starts=-1)
