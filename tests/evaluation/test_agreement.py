import sys

import numpy as np
import pytest

from keras_dml.evaluation import agreement

QUERIES = np.array([[1.0, 0.0], [0.0, 1.0]])
# Row 1 is row 0 at twice the length, row 2 the same to 1e-4, row 3 far off.
GALLERY = np.array([[3.0, 4.0], [6.0, 8.0], [3.0, 4.0003], [-1.0, -1.0]])


@pytest.mark.parametrize(
    ("found", "expected"),
    [([0, 0], 1.0), ([1, 0], 1.0), ([2, 0], 0.5), ([3, 3], 0.0), ([-1, 0], 0.5)],
    ids=["the same", "a duplicate", "a little farther", "far off", "nothing found"],
)
def test_neighbours_agree_when_they_are_as_near(found, expected):
    assert agreement(found, [0, 0], QUERIES, GALLERY) == expected


def test_nothing_found_is_not_the_last_row():
    assert agreement([-1], [0], [[1.0]], [[1.0]]) == 0.0


def test_tolerance_is_the_callers():
    assert agreement([2, 0], [0, 0], QUERIES, GALLERY, tolerance=1e-3) == 1.0


def test_ids_number_the_queries_without_a_gallery():
    embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    assert agreement([1, 0, 0], [1, 0, 1], embeddings) == pytest.approx(2 / 3)


def test_blocks_join_without_a_seam(monkeypatch):
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(20, 4))
    found, exact = rng.integers(0, 20, (2, 20))
    whole = agreement(found, exact, embeddings)
    module = sys.modules["keras_dml.evaluation.agreement"]
    monkeypatch.setattr(module, "_BLOCK_VALUES", 12)
    assert agreement(found, exact, embeddings) == whole
    assert 0 < whole < 1


@pytest.mark.parametrize(
    ("found", "exact", "message"),
    [
        ([0], [0, 0], r"found_ids must be integers of shape \(2,\)"),
        ([0, 0], [[0], [0]], r"exact_ids must be integers of shape \(2,\)"),
        ([0.0, 0.0], [0, 0], "found_ids must be integers"),
        ([0, 4], [0, 0], "found_ids must lie in -1 … 3"),
        ([0, 0], [0, -1], "exact_ids must lie in 0 … 3"),
    ],
)
def test_ids_that_number_no_row_are_refused(found, exact, message):
    with pytest.raises(ValueError, match=message):
        agreement(found, exact, QUERIES, GALLERY)


def test_codes_are_refused():
    with pytest.raises(ValueError, match="packed codes"):
        agreement([0], [0], np.ones((1, 2), np.uint8))
