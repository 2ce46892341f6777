import math
import sys
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from keras_dml.evaluation import k_means
from keras_dml.evaluation import normalized_mutual_information


@pytest.fixture(params=["faiss", "scikit-learn"])
def library(request, monkeypatch):
    if request.param == "faiss":
        pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    else:
        monkeypatch.setitem(sys.modules, "faiss", None)
    return request.param


def blobs(classes, images, dim=16, noise=0.05):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(classes), images))
    centers = rng.normal(size=(classes, dim))
    return centers[labels] + noise * rng.normal(size=(len(labels), dim)), labels


def partition(labels):
    """The sets of rows that share a label."""
    return {frozenset(np.flatnonzero(labels == one)) for one in np.unique(labels)}


def test_separate_classes_are_found(library):
    embeddings, labels = blobs(classes=5, images=30)
    clusters, used = k_means(embeddings, 5)
    assert partition(clusters) == partition(labels)
    assert (clusters.dtype, clusters.shape) == (np.int64, (150,))
    assert used.split()[0] == library
    assert used.split()[1][0].isdigit()


def test_classes_of_many_images_are_clustered_whole(library):
    # faiss would look at 256 rows of a cluster.
    embeddings, labels = blobs(classes=2, images=1000)
    clusters, _ = k_means(embeddings, 2, starts=1)
    assert partition(clusters) == partition(labels)


def test_rows_are_compared_by_direction_alone(library):
    embeddings, labels = blobs(classes=3, images=20)
    lengths = np.random.default_rng(1).uniform(1e-3, 1e3, (60, 1))
    clusters, _ = k_means(embeddings * lengths, 3)
    assert partition(clusters) == partition(labels)


def test_each_row_is_with_its_nearest_center(library):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 6))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    clusters, _ = k_means(rows, 7)
    centers = np.array([unit[clusters == one].mean(axis=0) for one in range(7)])
    distances = np.linalg.norm(unit[:, np.newaxis] - centers, axis=2)
    assert (distances.argmin(axis=1) == clusters).mean() > 0.97


def test_more_starts_fit_no_worse(library):
    embeddings, _ = blobs(classes=12, images=8, noise=1)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)

    def spread(starts):
        clusters, _ = k_means(embeddings, 12, starts=starts)
        return sum(
            ((unit[clusters == one] - unit[clusters == one].mean(axis=0)) ** 2).sum()
            for one in np.unique(clusters)
        )

    assert spread(20) < spread(1)


def test_one_seed_gives_one_clustering(library):
    embeddings, _ = blobs(classes=20, images=15, noise=1)
    first, _ = k_means(embeddings, 20, starts=2, seed=3)
    np.testing.assert_array_equal(k_means(embeddings, 20, starts=2, seed=3)[0], first)
    other, _ = k_means(embeddings, 20, starts=2, seed=4)
    assert partition(other) != partition(first)


@pytest.mark.parametrize("rows", [np.ones((6, 3)), np.zeros((6, 3))])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_identical_images_stay_together_without_a_warning(library, rows, k, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clusters, _ = k_means(rows, k)
    assert len(set(clusters.tolist())) == 1
    assert 0 <= clusters[0] < k
    assert capfd.readouterr() == ("", "")


def test_as_many_clusters_as_images_give_each_its_own(library):
    clusters, _ = k_means(np.eye(5), 5)
    assert sorted(clusters) == [0, 1, 2, 3, 4]


def test_small_clusters_are_found_in_silence(library, capfd):
    embeddings, labels = blobs(classes=10, images=2)
    clusters, _ = k_means(embeddings, 10, starts=50)
    assert partition(clusters) == partition(labels)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_inputs_are_left_as_they_were(library, dtype):
    embeddings = (3 * np.eye(4)).astype(dtype)
    k_means(embeddings, 2)
    np.testing.assert_array_equal(embeddings, (3 * np.eye(4)).astype(dtype))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be an integer from 1 to 3; got 0"),
        ({"k": 4}, "k must be an integer from 1 to 3; got 4"),
        ({"starts": 0}, "starts must be an integer of at least 1; got 0"),
        ({"seed": -1}, "seed must be an integer"),
        ({"embeddings": np.ones((3, 2), np.uint8)}, "packed codes"),
        ({"embeddings": np.array([[1.0], [np.inf]])}, "must be finite; row 1 holds"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(arguments, message):
    arguments = {"embeddings": np.eye(3), "k": 2} | arguments
    with pytest.raises(ValueError, match=message):
        k_means(**arguments)


partitions = st.integers(1, 30).flatmap(
    lambda rows: st.tuples(
        *2 * [st.lists(st.integers(-3, 3), min_size=rows, max_size=rows)]
    )
)


@given(partitions)
def test_equals_scikit_learn_with_the_geometric_mean(pair):
    expected = normalized_mutual_info_score(*pair, average_method="geometric")
    found = normalized_mutual_information(*pair)
    assert 0 <= found <= 1
    assert found == pytest.approx(expected, abs=1e-9)


@given(partitions)
def test_is_symmetric_and_blind_to_names(pair):
    labels, clusters = pair
    found = normalized_mutual_information(labels, clusters)
    assert normalized_mutual_information(clusters, labels) == pytest.approx(found)
    renamed = [f"class {-label}" for label in labels]
    assert normalized_mutual_information(renamed, clusters) == pytest.approx(
        found, abs=1e-9
    )


def test_equals_the_formula_on_a_hand_counted_table():
    labels, clusters = "aaaabbbbcc", "1112222233"
    n = len(labels)
    pairs = Counter(zip(labels, clusters, strict=True))
    a, b = Counter(labels), Counter(clusters)
    information = sum(
        count / n * math.log(count * n / (a[label] * b[cluster]))
        for (label, cluster), count in pairs.items()
    )
    entropy_a = -sum(count / n * math.log(count / n) for count in a.values())
    entropy_b = -sum(count / n * math.log(count / n) for count in b.values())
    found = normalized_mutual_information(list(labels), list(clusters))
    assert found == pytest.approx(information / math.sqrt(entropy_a * entropy_b))


def test_many_classes_do_not_overflow():
    labels = np.arange(60_000)
    assert normalized_mutual_information(labels, labels[::-1]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("labels", "clusters", "expected"),
    [
        ([1, 1, 1], [0, 0, 0], 1.0),
        ([1, 1, 1], [0, 1, 2], 0.0),
        ([1, 2, 3], [0, 0, 0], 0.0),
        ([5], [7], 1.0),
        (["x", "x", "y", "y"], [0, 1, 0, 1], 0.0),
    ],
)
def test_limits(labels, clusters, expected):
    assert normalized_mutual_information(labels, clusters) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "clusters", "message"),
    [
        ([], [], r"labels must have shape \(n,\), .*; got \(0,\)"),
        (3, 4, r"labels must have shape \(n,\), .*; got \(\)"),
        ([0, 1], [0], r"clusters must have shape \(2,\)"),
        ([0.0, 1.0], [0, 1], "labels must be integers, or strings"),
        ([0, 1], [0.0, 1.0], "clusters must be integers, or strings"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(labels, clusters, message):
    with pytest.raises(ValueError, match=message):
        normalized_mutual_information(labels, clusters)
