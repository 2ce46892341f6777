import sys

import numpy as np
import pytest

from keras_dml.evaluation import agreement
from tests.evaluation.brute_force import brute_force

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
    module = sys.modules["keras_dml.evaluation.index_metrics"]
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
    with pytest.raises(ValueError, match="tolerance must be a number, at least 0"):
        agreement([[0], [0]], [[0], [0]], QUERIES, GALLERY, tolerance)
