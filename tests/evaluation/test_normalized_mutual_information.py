import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from keras_dml.evaluation import normalized_mutual_information

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
        ([], [], "labels is empty"),
        ([0, 1], [0], r"clusters must have shape \(2,\)"),
        ([0.0, 1.0], [0, 1], "labels must be integers, or strings"),
        ([0, 1], [0.0, 1.0], "clusters must be integers, or strings"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(labels, clusters, message):
    with pytest.raises(ValueError, match=message):
        normalized_mutual_information(labels, clusters)
