import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import recall_at_k

KS = (1, 2, 3, 5, 40)

# Rows of ±1 have length 2 exactly, so that equal cosines are equal in float32 too.
sign_rows = st.lists(st.sampled_from([-1, 1]), min_size=4, max_size=4)
embeddings_with_ties = st.one_of(sign_rows, st.just([0, 0, 0, 0]))


@st.composite
def labeled_rows(draw, least=1):
    rows = draw(st.lists(embeddings_with_ties, min_size=least, max_size=12))
    labels = draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    return rows, labels


def naive_recall(scores, query_labels, gallery_labels, ks, leave_out_own_row):
    """Recall in exact fractions: tied groups are walked from the best one down."""
    total = dict.fromkeys(ks, Fraction(0))
    for query, label in enumerate(query_labels):
        groups = {}
        for row, other in enumerate(gallery_labels):
            if not (leave_out_own_row and row == query):
                groups.setdefault(scores[query][row], []).append(other == label)
        for k in ks:
            places = k
            for score in sorted(groups, reverse=True):
                size, others = len(groups[score]), groups[score].count(False)
                if size >= places or others < size:
                    drawn = min(places, size)
                    miss = Fraction(math.comb(others, drawn), math.comb(size, drawn))
                    total[k] += 1 - miss
                    break
                places -= size
    return {f"recall@{k}": float(total[k] / len(query_labels)) for k in ks}


def recall_over_all_orders(scores, labels, k):
    """Self-retrieval recall, averaged over every order in which ties may fall."""
    hits = trials = 0
    for query, label in enumerate(labels):
        others = [row for row in range(len(labels)) if row != query]
        for order in itertools.permutations(others):
            nearest = sorted(order, key=lambda row: -scores[query][row])[:k]
            hits += any(labels[row] == label for row in nearest)
            trials += 1
    return hits / trials


def dots(queries, gallery):
    return [[sum(map(int.__mul__, q, g)) for g in gallery] for q in queries]


def minus_hamming(queries, gallery):
    return [
        [-sum((a > 0) != (b > 0) for a, b in zip(q, g, strict=True)) for g in gallery]
        for q in queries
    ]


@given(labeled_rows(), st.sampled_from([np.float16, np.float32, np.float64]))
def test_self_retrieval_is_the_naive_definition(data, dtype):
    rows, labels = data
    expected = naive_recall(dots(rows, rows), labels, labels, KS, True)
    assert recall_at_k(np.array(rows, dtype), labels, ks=KS) == pytest.approx(expected)


@given(labeled_rows(), labeled_rows())
def test_query_against_gallery_is_the_naive_definition(query_data, gallery_data):
    (queries, query_labels), (gallery, gallery_labels) = query_data, gallery_data
    scores = dots(queries, gallery)
    expected = naive_recall(scores, query_labels, gallery_labels, KS, False)
    found = recall_at_k(
        np.array(queries, float),
        query_labels,
        np.array(gallery, float),
        gallery_labels,
        KS,
    )
    assert found == pytest.approx(expected)


@given(labeled_rows(), labeled_rows(), st.booleans())
def test_codes_are_compared_by_counting_differing_bits(
    query_data, gallery_data, self_retrieval
):
    (queries, query_labels), (gallery, gallery_labels) = query_data, gallery_data
    if self_retrieval:
        scores = minus_hamming(queries, queries)
        expected = naive_recall(scores, query_labels, query_labels, KS, True)
        found = recall_at_k(binary_codes(np.array(queries, float)), query_labels, ks=KS)
    else:
        scores = minus_hamming(queries, gallery)
        expected = naive_recall(scores, query_labels, gallery_labels, KS, False)
        codes = [binary_codes(np.array(rows, float)) for rows in (queries, gallery)]
        found = recall_at_k(codes[0], query_labels, codes[1], gallery_labels, KS)
    assert found == pytest.approx(expected)


@settings(max_examples=25)
@given(st.lists(st.tuples(sign_rows, st.integers(0, 2)), min_size=1, max_size=6))
def test_ties_count_as_the_mean_over_all_their_orders(data):
    rows, labels = zip(*data, strict=True)
    found = recall_at_k(np.array(rows, float), labels, ks=(1, 2, 3))
    for k in (1, 2, 3):
        expected = recall_over_all_orders(dots(rows, rows), labels, k)
        assert found[f"recall@{k}"] == pytest.approx(expected)


def test_recall_of_real_valued_embeddings_is_that_of_a_full_sort():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 40, 300)
    embeddings = rng.normal(size=(40, 32))[labels] + 2 * rng.normal(size=(300, 32))
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    ranked = labels[np.argsort(-scores, axis=1)] == labels[:, np.newaxis]
    expected = {f"recall@{k}": ranked[:, :k].any(axis=1).mean() for k in (1, 2, 4, 8)}
    assert 0.1 < expected["recall@1"] < 0.9
    assert recall_at_k(embeddings, labels) == pytest.approx(expected)


@pytest.mark.parametrize("itself", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_recall_is_that_of_neighbors_found_by_faiss(itself, packed):
    faiss = pytest.importorskip("faiss")
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 250, 3000)
    rows = rng.normal(size=(250, 96))[labels] + 1.6 * rng.normal(size=(3000, 96))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    if packed:
        rows = binary_codes(rows)
    queries, gallery = (rows, rows) if itself else (rows[:1000], rows[1000:])
    query_labels, gallery_labels = (
        (labels, labels) if itself else (labels[:1000], labels[1000:])
    )
    index = faiss.IndexBinaryFlat(96) if packed else faiss.IndexFlatIP(96)
    index.add(gallery)
    _, ids = index.search(queries, 200)
    hits = gallery_labels[ids] == query_labels[:, np.newaxis]
    if itself:
        hits[ids == np.arange(3000)[:, np.newaxis]] = False
    found = {
        ties: recall_at_k(
            queries,
            query_labels,
            *((None, None) if itself else (gallery, gallery_labels)),
            (1, 8),
            ties,
        )
        for ties in ("worst", "best")
    }
    assert 0.1 < found["worst"]["recall@1"] <= found["best"]["recall@1"] < 0.9
    for k in (1, 8):
        # faiss breaks ties as it likes, so its recall lies between the two.
        place = np.cumsum(ids != np.arange(len(ids))[:, np.newaxis], axis=1)
        among = place <= k if itself else np.arange(200) < k
        by_faiss = np.any(hits & among, axis=1).mean()
        worst, best = (found[ties][f"recall@{k}"] for ties in ("worst", "best"))
        assert worst <= by_faiss <= best
        if not packed:
            assert worst == best


def test_query_is_left_out_by_identity_when_scores_tie_across_classes():
    # Each image has a double in the other class. Dropping whichever comes first in a
    # sort would drop the double and find a neighbor of the right class every time.
    embeddings = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8], [0.6, 0.8]])
    labels = [0, 1, 0, 1]
    assert recall_at_k(embeddings, labels, ks=(1, 2, 3)) == {
        "recall@1": 0.0,
        "recall@2": 0.5,
        "recall@3": 1.0,
    }


@pytest.mark.parametrize("rows", [2, 101, 1003])
@pytest.mark.parametrize("dim", [3, 64, 500])
def test_identical_images_tie_exactly_whatever_their_column(rows, dim):
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=dim)
    gallery = np.tile(embedding, (rows, 1))
    labels = np.arange(rows)
    found = recall_at_k(embedding[np.newaxis], [0], gallery, labels, ks=(1, rows))
    assert found == pytest.approx({"recall@1": 1 / rows, f"recall@{rows}": 1.0})


def test_hand_worked_self_retrieval():
    angles = np.radians([0, 10, 32, 60, 100])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = ["x", "y", "x", "y", "x"]
    # Others, nearest first: 0° → 10 32; 10° → 0 32 60; 32° → 10 60 0; 60° → 32 100 10;
    # 100° → 60 32. The last of each is the first of its own class.
    found = recall_at_k(embeddings, labels, ks=(1, 2, 3))
    assert found == {"recall@1": 0.0, "recall@2": 0.4, "recall@3": 1.0}


def test_lone_class_is_a_miss_that_counts():
    embeddings = np.eye(3)[[0, 0, 1]]
    assert recall_at_k(embeddings, [5, 5, 6], ks=(1, 100)) == {
        "recall@1": pytest.approx(2 / 3),
        "recall@100": pytest.approx(2 / 3),
    }


def test_class_absent_from_the_gallery_is_a_miss():
    assert recall_at_k(np.eye(2), [0, 9], np.eye(2), [0, 1], ks=(2,)) == {
        "recall@2": 0.5
    }


def test_a_single_image_finds_nothing():
    assert recall_at_k(np.ones((1, 3)), [0], ks=(1, 8)) == {
        "recall@1": 0.0,
        "recall@8": 0.0,
    }


def test_k_beyond_the_gallery_gives_the_recall_of_all_of_it():
    found = recall_at_k(np.eye(3), [0, 1, 7], np.eye(3), [1, 0, 2], ks=(3, 10**30))
    assert found == {
        "recall@3": pytest.approx(2 / 3),
        f"recall@{10**30}": pytest.approx(2 / 3),
    }


def test_collapsed_embeddings_give_chance_level_without_overflow():
    # 2,000 equal images of 10 classes: of 1,999 others 199 are of the query's class.
    labels = np.arange(2000) % 10
    found = recall_at_k(np.ones((2000, 2), np.float32), labels, ks=(1, 500))
    miss_500 = Fraction(math.comb(1800, 500), math.comb(1999, 500))
    assert found["recall@1"] == pytest.approx(199 / 1999)
    assert found["recall@500"] == pytest.approx(float(1 - miss_500))


@pytest.mark.parametrize("base", [2**24, 2**53, 2**63, 2**70])
def test_neighboring_large_labels_are_different_classes(base):
    labels = [base, base + 1]
    assert recall_at_k(np.ones((2, 2)), labels, ks=(1,)) == {"recall@1": 0.0}
    assert recall_at_k(np.eye(2), labels, np.eye(2), labels, ks=(1,)) == {
        "recall@1": 1.0
    }


def test_list_of_labels_below_and_beyond_int64_is_that_of_uint64():
    embeddings = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]
    labels = [1, 1, 2**63, 2**63 + 1]
    assert recall_at_k(embeddings, labels, ks=(1,)) == {"recall@1": 0.5}
    assert recall_at_k(embeddings, np.array(labels, np.uint64), ks=(1,)) == {
        "recall@1": 0.5
    }


def test_padding_bits_do_not_change_recall():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(60, 11))
    labels = rng.integers(0, 12, 60)
    padded = np.concatenate([embeddings, -np.ones((60, 40))], axis=1)
    assert recall_at_k(binary_codes(embeddings), labels) == pytest.approx(
        recall_at_k(binary_codes(padded), labels)
    )


def test_result_holds_python_numbers_in_the_order_asked():
    found = recall_at_k(np.eye(3), [0, 0, 1], ks=np.array([4, 1]))
    assert list(found) == ["recall@4", "recall@1"]
    assert {type(share) for share in found.values()} == {float}


def test_inputs_are_left_as_they_were():
    embeddings = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    recall_at_k(embeddings, [0, 0])
    assert embeddings.tolist() == [[3.0, 4.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gallery": np.eye(2)}, "go together; got only gallery"),
        ({"gallery_labels": [0, 1]}, "go together; got only gallery_labels"),
        ({"query_labels": [0]}, r"query_labels must have shape \(2,\)"),
        (
            {"gallery": np.eye(2), "gallery_labels": [0, 1, 2]},
            r"gallery_labels must have shape \(2,\)",
        ),
        ({"gallery": np.ones((2, 3)), "gallery_labels": [0, 1]}, "one width"),
        ({"ks": (0,)}, "ks holds 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, message):
    arguments = {"queries": np.eye(2), "query_labels": [0, 1]} | arguments
    with pytest.raises(ValueError, match=message):
        recall_at_k(**arguments)
