import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import precision_at_r
from keras_dml.evaluation import similarity_tiles

# Rows of ±1 have length 2 exactly, so that equal cosines are equal in float32 too.
sign_rows = st.lists(st.sampled_from([-1, 1]), min_size=4, max_size=4)


@st.composite
def labelled_rows(draw, least=1, most=7):
    rows = draw(st.lists(sign_rows, min_size=least, max_size=most))
    labels = draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    return rows, labels


def of_ranking(hits, r):
    """R-precision and MAP@R of one query whose ranking has no ties."""
    precisions = [Fraction(sum(hits[:i]), i) for i in range(1, r + 1)]
    return (
        precisions[-1],
        sum(p for p, hit in zip(precisions, hits, strict=False) if hit) / r,
    )


def over_all_orders(queries, query_labels, gallery, gallery_labels, itself):
    """Both means, each query averaged over every order in which ties may fall."""
    totals = [Fraction(0), Fraction(0)]
    for query, label in enumerate(query_labels):
        others = [i for i in range(len(gallery)) if not (itself and i == query)]
        r = sum(gallery_labels[i] == label for i in others)
        if r == 0:
            continue
        scores = [sum(map(int.__mul__, queries[query], row)) for row in gallery]
        found = []
        for order in itertools.permutations(others):
            nearest = sorted(order, key=lambda i: -scores[i])
            found.append(of_ranking([gallery_labels[i] == label for i in nearest], r))
        for measure in range(2):
            totals[measure] += sum(one[measure] for one in found) / len(found)
    return {
        "r_precision": pytest.approx(float(totals[0] / len(queries))),
        "map@r": pytest.approx(float(totals[1] / len(queries))),
    }


@settings(max_examples=40, deadline=None)
@given(labelled_rows())
def test_ties_count_as_the_mean_over_all_their_orders(data):
    rows, labels = data
    expected = over_all_orders(rows, labels, rows, labels, itself=True)
    assert precision_at_r(np.array(rows, np.float32), labels) == expected
    # For rows of ±1 the Hamming distance falls as the inner product rises.
    assert precision_at_r(binary_codes(np.array(rows, float)), labels) == expected


@settings(max_examples=40, deadline=None)
@given(labelled_rows(most=4), labelled_rows(most=6))
def test_queries_search_the_gallery_alone(query_data, gallery_data):
    (queries, query_labels), (gallery, gallery_labels) = query_data, gallery_data
    expected = over_all_orders(
        queries, query_labels, gallery, gallery_labels, itself=False
    )
    found = precision_at_r(
        np.array(queries, float), query_labels, np.array(gallery, float), gallery_labels
    )
    assert found == expected


@pytest.mark.parametrize("tile_rows", [1, 7, 10**4])
def test_real_valued_embeddings_are_measured_as_by_a_full_sort(monkeypatch, tile_rows):
    monkeypatch.setattr(similarity_tiles, "TILE_BYTES", 4 * 320 * tile_rows)
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(300) % 40)
    embeddings = rng.normal(size=(40, 32))[labels] + 1.5 * rng.normal(size=(300, 32))
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1)[:, :-1]
    ranked = (labels[order] == labels[:, np.newaxis]).astype(int).tolist()
    found = [of_ranking(hits, sum(hits)) for hits in ranked]
    expected = np.array(found, float).mean(axis=0)
    assert 0.1 < expected[1] < expected[0] < 0.9
    assert precision_at_r(embeddings, labels) == pytest.approx(
        {"r_precision": expected[0], "map@r": expected[1]}
    )


def test_hand_worked_example_of_the_reality_check():
    # Ten images of the query's class. Among the ten nearest are the first alone; the
    # first and the last; the first two; all: their R-precision and MAP@R.
    for right, expected in (
        ({1}, (0.1, 0.1)),
        ({1, 10}, (0.2, (1 + 2 / 10) / 10)),
        ({1, 2}, (0.2, 0.2)),
        (set(range(1, 11)), (1.0, 1.0)),
    ):
        angles = np.radians(np.arange(1, 21) * 4)
        gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        own = [place in right for place in range(1, 11)]
        own += [place >= len(right) for place in range(10)]
        labels = np.where(own, "own", "other")
        found = precision_at_r([[1.0, 0.0]], ["own"], gallery, labels)
        assert found == pytest.approx(
            {"r_precision": expected[0], "map@r": expected[1]}
        )


def test_lone_class_counts_zero_as_in_recall():
    found = precision_at_r(np.eye(3)[[0, 0, 1]], [5, 5, 6])
    assert found == pytest.approx({"r_precision": 2 / 3, "map@r": 2 / 3})


def test_class_absent_from_the_gallery_counts_zero():
    found = precision_at_r(np.eye(2), [0, 9], np.eye(2), [0, 1])
    assert found == {"r_precision": 0.5, "map@r": 0.5}
    found = precision_at_r(np.eye(2), ["y", "z"], np.eye(2), ["x", "y"])
    assert found == {"r_precision": 0.0, "map@r": 0.0}


def test_a_single_image_counts_zero():
    assert precision_at_r(np.ones((1, 3)), [0]) == {"r_precision": 0, "map@r": 0}


def test_one_class_alone_is_perfect():
    found = precision_at_r(np.random.default_rng(0).normal(size=(9, 3)), [4] * 9)
    assert found == pytest.approx({"r_precision": 1.0, "map@r": 1.0})


def test_collapsed_embeddings_give_chance_level():
    # Of 1,999 equal others 199 are right: the chance of each place, and given it is
    # right, 1 + (j − 1) 198 / 1998 of the first j.
    found = precision_at_r(np.ones((2000, 2), np.float32), np.arange(2000) % 10)
    chance = 199 / 1999
    hits = [chance * (1 + j * 198 / 1998) / (j + 1) for j in range(199)]
    assert found == pytest.approx({"r_precision": chance, "map@r": np.mean(hits)})


def test_result_is_of_python_numbers():
    found = precision_at_r(np.eye(3), [0, 0, 1])
    assert [type(share) for share in found.values()] == [float, float]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gallery": np.eye(2)}, "go together; got only gallery"),
        ({"query_labels": [0]}, r"query_labels must have shape \(2,\)"),
        ({"queries": np.full((2, 2), np.nan)}, "queries must be finite; row 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, message):
    arguments = {"queries": np.eye(2), "query_labels": [0, 1]} | arguments
    with pytest.raises(ValueError, match=message):
        precision_at_r(**arguments)
