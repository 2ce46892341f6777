import numpy as np
import pytest

from keras_dml.evaluation import nearest_neighbors
from keras_dml.evaluation import recall_at_k
from keras_dml.evaluation import recall_of_neighbors
from keras_dml.evaluation import without_self


def test_hand_worked_ranks():
    ids = [[0, 1, 2], [1, 0, 2], [2, -1, -1], [-1, -1, -1]]
    found = recall_of_neighbors(ids, [5, 5, 5, 7], [5, 6, 7], ks=(3, 1, 2))
    assert found == {3: 0.5, 1: 0.25, 2: 0.5}
    assert list(found) == [3, 1, 2]


def test_missing_neighbor_is_not_the_last_row_of_the_gallery():
    assert recall_of_neighbors([[-1]], [7], [5, 7], ks=(1,)) == {1: 0.0}


def test_exact_neighbors_give_the_exact_recall():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 100)
    embeddings = rng.normal(size=(20, 16))[labels] + rng.normal(size=(100, 16))
    ids, _ = nearest_neighbors(embeddings, k=8)
    assert recall_of_neighbors(ids, labels, labels) == pytest.approx(
        recall_at_k(embeddings, labels)
    )


def test_large_labels_do_not_collide():
    assert recall_of_neighbors([[0]], [2**53], [2**53 + 1], ks=(1,)) == {1: 0.0}


def test_query_is_taken_out_by_its_id_wherever_it_stands():
    ids = [[4, 1, 2], [0, 4, 2], [0, 1, 4]]
    assert without_self(ids, [4, 4, 4]).tolist() == [[1, 2], [0, 2], [0, 1]]


def test_query_that_was_not_found_costs_the_last_neighbor():
    assert without_self([[0, 1, 2], [3, -1, -1]], [9, 9]).tolist() == [[0, 1], [3, -1]]


@pytest.mark.parametrize(
    ("ids", "query_labels", "gallery_labels", "ks", "message"),
    [
        ([[0]], [1], [1], (2,), "ks asks for 2 neighbors, but ids has 1 a query"),
        ([[2]], [1], [1, 2], (1,), "ids must lie in −1 … 1"),
        ([[-2]], [1], [1, 2], (1,), "ids must lie in −1 … 1"),
        (np.array([[2**64 - 1]], np.uint64), [1], [1], (1,), "ids must lie in −1 … 0"),
        ([[0.0]], [1], [1], (1,), "ids must be integers"),
        ([0], [1], [1], (1,), "ids must be integers of shape"),
        ([[0]], [1, 2], [1], (1,), r"query_labels must have shape \(1,\)"),
        ([[0]], [1], [[1]], (1,), "gallery_labels must have shape"),
        ([[-1]], [1], [], (1,), "gallery_labels is empty"),
        ([[0]], [1], [1], (0,), "ks holds 0"),
    ],
)
def test_what_does_not_fit_is_refused(ids, query_labels, gallery_labels, ks, message):
    with pytest.raises(ValueError, match=message):
        recall_of_neighbors(ids, query_labels, gallery_labels, ks)


@pytest.mark.parametrize(("ids", "own"), [([[0]], [0]), ([[0, 1]], [0, 1]), ([0], [0])])
def test_query_cannot_be_left_out_of_what_does_not_fit(ids, own):
    with pytest.raises(ValueError, match="ids must"):
        without_self(ids, own)


@pytest.mark.parametrize(
    "own",
    [
        ["0", "1"],
        [None, None],
        [0.0, np.nan],
        [0.0, 1.0],
        [False, True],
        [0, -1],
        [2**63, 2**63],
    ],
)
def test_own_ids_that_name_no_row_are_refused(own):
    with pytest.raises(ValueError, match="own_ids must be integers in 0"):
        without_self([[0, 1, -1], [1, 0, -1]], own)


@pytest.mark.parametrize("ids", [[[1, 2, 0], [0, 1, 0]], [[1, 2, 3], [2, 0, 0]]])
def test_id_twice_in_a_row_is_refused(ids):
    with pytest.raises(ValueError, match="id twice in a row; row 1 holds 0 twice"):
        without_self(ids, [1, 0])


def test_id_beyond_int64_does_not_wrap():
    ids = np.array([[0, 2**64 - 1]], np.uint64)
    with pytest.raises(ValueError, match="ids must lie in −1 … 9223372036854775807"):
        without_self(ids, [0])


def test_unsigned_own_ids_are_matched():
    own = np.array([2**62 + 1], np.uint64)
    assert without_self([[2**62, 2**62 + 1]], own).tolist() == [[2**62]]
