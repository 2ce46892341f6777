import itertools
import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml._similarity import unit_rows
from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import ranking_metrics
from keras_dml.evaluation import recall_at_k
from keras_dml.evaluation._ranking import counting
from keras_dml.evaluation._ranking.figures import TIES

KS = (1, 2, 5, 400)

# Rows of ±1 have length 2 exactly, so that equal cosines are equal in float32 too.
sign_rows = st.lists(st.sampled_from([-1, 1]), min_size=4, max_size=4)


@st.composite
def labeled_rows(draw, least=1, most=7):
    rows = draw(st.lists(sign_rows, min_size=least, max_size=most))
    labels = draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    return rows, labels


def of_ranking(hits):
    """The figures of one query whose ranking has no ties."""
    r = sum(hits)
    figures = {f"recall@{k}": Fraction(any(hits[:k])) for k in KS}
    if r == 0:
        return figures | dict.fromkeys(("mrr", "r_precision", "map@r"), Fraction(0))
    precisions = [Fraction(sum(hits[:i]), i) for i in range(1, r + 1)]
    hit_precisions = [p for p, hit in zip(precisions, hits, strict=False) if hit]
    return figures | {
        "mrr": Fraction(1, hits.index(True) + 1),
        "r_precision": precisions[-1],
        "map@r": sum(hit_precisions) / r,
    }


def of_tied_ranking(scores, own):
    """The expected figures of one query, place by place, in fractions."""
    r, places = sum(own), []
    for score in sorted(set(scores), reverse=True):
        tied = [mine for one, mine in zip(scores, own, strict=True) if one == score]
        places += [(sum(tied), len(tied), j) for j in range(len(tied))]
    figures = {f"recall@{k}": Fraction(0) for k in KS}
    figures |= dict.fromkeys(("mrr", "r_precision", "map@r"), Fraction(0))
    own_before, unfound = 0, Fraction(1)
    for place, (p, t, j) in enumerate(places, 1):
        if j == 0 and place > 1:
            own_before += places[place - 2][0]
        if own_before == 0 and p:
            # The chance that none of the p is among the first j + 1 of t.
            still = Fraction(math.comb(t - p, j + 1), math.comb(t, j + 1))
            figures["mrr"] += (unfound - still) / place
            unfound = still
        if place in KS:
            figures[f"recall@{place}"] = 1 - unfound
        if place <= r:
            chance = Fraction(p, t)
            more = Fraction(j * (p - 1), t - 1) if t > 1 else 0
            figures["r_precision"] += chance / r
            figures["map@r"] += chance * (own_before + 1 + more) / place / r
    for k in KS:
        if k > len(places):
            figures[f"recall@{k}"] = 1 - unfound
    return figures


def means(found):
    return {
        name: float(sum(one[name] for one in found) / len(found)) for name in found[0]
    }


def over_all_orders(scores, query_labels, gallery_labels):
    """Each query's figures averaged over every order in which ties may fall."""
    found = []
    for row, label in zip(scores, query_labels, strict=True):
        others = [i for i in range(len(row)) if row[i] is not None]
        orders = []
        for order in itertools.permutations(others):
            nearest = sorted(order, key=lambda i: -row[i])
            orders.append(of_ranking([gallery_labels[i] == label for i in nearest]))
        found.append(
            {name: sum(one[name] for one in orders) / len(orders) for name in orders[0]}
        )
    return means(found)


def naive(scores, query_labels, gallery_labels, ties):
    """The definition, a query at a time, from a full matrix; −inf is left out."""
    found = []
    for row, label in zip(scores, query_labels, strict=True):
        present = row > -np.inf
        own = gallery_labels[present] == label
        if ties == "expected":
            found.append(of_tied_ranking(row[present].tolist(), own.tolist()))
            continue
        ranks = np.lexsort((own if ties == "worst" else ~own, -row[present]))
        found.append(of_ranking(own[ranks].tolist()))
    return means(found)


def figures_of(metrics):
    counts = ("queries", "lone_queries")
    return {name: share for name, share in metrics.items() if name not in counts}


def recalls_of(metrics):
    return {f"recall@{k}": metrics[f"recall@{k}"] for k in KS}


def dots(queries, gallery):
    return [[sum(map(int.__mul__, q, g)) for g in gallery] for q in queries]


@settings(max_examples=40)
@given(labeled_rows())
def test_ties_count_as_the_mean_over_all_their_orders(data):
    rows, labels = data
    scores = dots(rows, rows)
    for i in range(len(rows)):
        scores[i][i] = None
    expected = pytest.approx(over_all_orders(scores, labels, labels))
    found = ranking_metrics(np.array(rows, np.float32), labels, ks=KS)
    assert figures_of(found["all"]) == expected
    # For rows of ±1 the Hamming distance falls as the inner product rises.
    found = ranking_metrics(binary_codes(np.array(rows, float)), labels, ks=KS)
    assert figures_of(found["all"]) == expected


@settings(max_examples=40)
@given(labeled_rows(most=4), labeled_rows(most=6))
def test_queries_search_the_gallery_alone(query_data, gallery_data):
    (queries, query_labels), (gallery, gallery_labels) = query_data, gallery_data
    expected = over_all_orders(dots(queries, gallery), query_labels, gallery_labels)
    found = ranking_metrics(
        np.array(queries, float),
        query_labels,
        np.array(gallery, float),
        gallery_labels,
        KS,
    )
    assert figures_of(found["all"]) == pytest.approx(expected)


@st.composite
def classes_of_many_sizes(draw):
    """Up to 250 labels in random order, of classes from 1 to 150 images."""
    size = st.one_of(st.integers(1, 6), st.integers(1, 150))
    sizes = draw(st.lists(size, min_size=1, max_size=25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.permutation(np.repeat(np.arange(len(sizes)), sizes))[:250], rng


@pytest.fixture(params=[counting._MOST_POSITIVES, 0], ids=["symmetric", "by_query"])
def small_tiles(request, monkeypatch):
    monkeypatch.setattr(counting, "SIDE", 64)
    monkeypatch.setattr(counting, "CODE_SIDE", 64)
    monkeypatch.setattr(counting, "_MOST_POSITIVES", request.param)


@pytest.fixture(params=[True, False], ids=["faiss", "numpy"])
def with_and_without_faiss(request, monkeypatch):
    if request.param:
        pytest.importorskip("faiss")
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


# The fixtures are the same for all examples, so that they need not be made anew.
same_fixtures = settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.usefixtures("small_tiles", "with_and_without_faiss")
@same_fixtures
@given(classes_of_many_sizes(), st.sampled_from([4, 16]), st.sampled_from(TIES))
def test_self_retrieval_in_many_tiles_is_the_naive_definition(drawn, dim, ties):
    labels, rng = drawn
    # Products of ±1 are whole numbers: exact, and very often equal.
    signs = rng.choice([-1, 1], (len(labels), dim)).astype(np.float32)
    scores = signs @ signs.T
    np.fill_diagonal(scores, -np.inf)
    expected = pytest.approx(naive(scores, labels, labels, ties))
    found = ranking_metrics(signs, labels, ks=KS, ties=ties)
    assert figures_of(found["all"]) == expected
    assert recall_at_k(signs, labels, ks=KS, ties=ties) == pytest.approx(
        recalls_of(found["all"])
    )
    found = ranking_metrics(binary_codes(signs), labels, ks=KS, ties=ties)
    assert figures_of(found["all"]) == expected


@pytest.mark.usefixtures("small_tiles")
@same_fixtures
@given(classes_of_many_sizes(), classes_of_many_sizes(), st.sampled_from(TIES))
def test_gallery_without_same_items_is_the_naive_definition(
    query_drawn, gallery_drawn, ties
):
    (query_labels, rng), (gallery_labels, _) = query_drawn, gallery_drawn
    queries = rng.choice([-1.0, 1.0], (len(query_labels), 16))
    gallery = rng.choice([-1.0, 1.0], (len(gallery_labels), 16))
    # Some ids are on both sides, some of them several times.
    query_ids = rng.integers(0, 300, len(queries)).astype(str)
    gallery_ids = rng.integers(100, 400, len(gallery)).astype(str)
    scores = queries @ gallery.T
    scores[query_ids[:, np.newaxis] == gallery_ids] = -np.inf
    expected = naive(scores, query_labels, gallery_labels, ties)
    arguments = (queries, query_labels, gallery, gallery_labels, KS, ties)
    found = ranking_metrics(*arguments, query_ids, gallery_ids)["all"]
    assert figures_of(found) == pytest.approx(expected)
    own = (query_labels[:, np.newaxis] == gallery_labels) & (scores > -np.inf)
    assert found["lone_queries"] == np.count_nonzero(~own.any(axis=1))
    assert recall_at_k(*arguments, query_ids, gallery_ids) == pytest.approx(
        recalls_of(expected)
    )


@pytest.mark.usefixtures("small_tiles")
def test_real_valued_embeddings_are_measured_as_by_a_full_sort():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(300) % 40)
    embeddings = rng.normal(size=(40, 32))[labels] + 1.5 * rng.normal(size=(300, 32))
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    expected = naive(scores, labels, labels, "worst")
    assert 0.1 < expected["map@r"] < expected["r_precision"] < 0.9
    found = ranking_metrics(embeddings, labels, ks=KS)
    assert figures_of(found["all"]) == pytest.approx(expected)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    "spread", [pytest.param(1e-1, marks=pytest.mark.slow), 1e-3, 1e-5, 0]
)
@pytest.mark.parametrize("ties", TIES)
def test_embeddings_that_have_nearly_collapsed_are_ranked_exactly(spread, ties):
    # The nearer they are to one another, the more of their cosines differ by less than
    # the roundings of a product, and then tie in float32.
    rng = np.random.default_rng(4)
    labels = rng.permutation(np.arange(330) % 21)
    embeddings = 1 + spread * rng.normal(size=(330, 100))
    unit = unit_rows(embeddings).astype(np.longdouble)
    scores = (unit @ unit.T).astype(np.float32)
    np.fill_diagonal(scores, -np.inf)
    expected = naive(scores, labels, labels, ties)
    found = ranking_metrics(embeddings, labels, ks=KS, ties=ties)["all"]
    assert figures_of(found) == pytest.approx(expected)
    assert recall_at_k(embeddings, labels, ks=KS, ties=ties) == pytest.approx(
        recalls_of(expected)
    )


def test_figures_are_those_of_pytorch_metric_learning():
    accuracy_calculator = pytest.importorskip(
        "pytorch_metric_learning.utils.accuracy_calculator"
    )
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.arange(400) % 37)
    embeddings = rng.normal(size=(37, 16))[labels] + 1.2 * rng.normal(size=(400, 16))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    peer = accuracy_calculator.AccuracyCalculator(
        include=(
            "precision_at_1",
            "mean_reciprocal_rank",
            "r_precision",
            "mean_average_precision_at_r",
        ),
        k=399,
    ).get_accuracy(embeddings.astype(np.float32), labels)
    found = ranking_metrics(embeddings, labels)["all"]
    assert found["recall@1"] == pytest.approx(peer["precision_at_1"])
    assert found["mrr"] == pytest.approx(peer["mean_reciprocal_rank"])
    assert found["r_precision"] == pytest.approx(peer["r_precision"])
    assert found["map@r"] == pytest.approx(peer["mean_average_precision_at_r"])


def test_classes_are_measured_apart():
    angles = np.radians([0, 10, 40, 50, 75])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    metrics = ranking_metrics(embeddings, ["a", "a", "b", "c", "b"], ks=(1, 2))
    assert list(metrics["classes"]) == ["a", "b", "c"]
    assert metrics["classes"]["a"] == {
        "recall@1": 1.0,
        "recall@2": 1.0,
        "mrr": 1.0,
        "r_precision": 1.0,
        "map@r": 1.0,
        "queries": 2,
        "lone_queries": 0,
    }
    # 40° sees c at 50°, a at 10°, then 75°; 75° sees c at 50°, then 40°.
    assert metrics["classes"]["b"]["mrr"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert metrics["classes"]["b"]["recall@2"] == 0.5
    assert metrics["classes"]["c"]["lone_queries"] == 1
    assert metrics["all"]["recall@1"] == pytest.approx(2 / 5)
    assert metrics["all"]["queries"] == 5
    assert metrics["all"]["lone_queries"] == 1


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
        found = ranking_metrics([[1.0, 0.0]], ["own"], gallery, labels)["all"]
        assert (found["r_precision"], found["map@r"]) == pytest.approx(expected)


def test_class_absent_from_the_gallery_counts_zero():
    found = ranking_metrics(np.eye(2), [0, 9], np.eye(2), [0, 1], ks=(1,))
    half = dict.fromkeys(("recall@1", "mrr", "r_precision", "map@r"), 0.5)
    assert found["all"] == half | {"queries": 2, "lone_queries": 1}
    found = ranking_metrics(np.eye(2), ["y", "z"], np.eye(2), ["x", "w"])
    assert set(figures_of(found["all"]).values()) == {0.0}


def test_a_single_image_counts_zero():
    found = ranking_metrics(np.ones((1, 3)), [0])["all"]
    assert set(figures_of(found).values()) == {0.0}
    assert found["lone_queries"] == 1


def test_collapsed_embeddings_give_chance_level():
    # Of 1,999 equal others 199 are right: the chance of each place, and given it is
    # right, 1 + (j − 1) 198 / 1998 of the first j.
    found = ranking_metrics(np.ones((2000, 2), np.float32), np.arange(2000) % 10)["all"]
    chance = 199 / 1999
    hits = [chance * (1 + j * 198 / 1998) / (j + 1) for j in range(199)]
    assert found["r_precision"] == pytest.approx(chance)
    assert found["map@r"] == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("base", [2**24, 2**53, 2**63, 2**70])
def test_large_labels_and_ids_are_told_apart(base):
    labels = [base, base + 1]
    found = ranking_metrics(np.eye(2), labels, np.eye(2), labels, ks=(1,))
    assert list(found["classes"]) == labels
    found = ranking_metrics(
        np.eye(2), [0, 1], np.eye(2), [0, 1], (1,), "expected", labels, [base, base + 5]
    )
    assert found["all"]["lone_queries"] == 1


def test_list_of_labels_and_ids_below_and_beyond_int64_stays_exact():
    labels = [1, 2**63, 2**63 + 1]
    found = ranking_metrics(np.eye(3), labels, np.eye(3), labels, (1,))
    assert list(found["classes"]) == labels
    assert {type(label) for label in found["classes"]} == {int}
    ids = labels, [1, 2**63 + 2, 2**63 + 3]
    found = ranking_metrics(np.eye(3), labels, np.eye(3), labels, (1,), "worst", *ids)
    assert found["all"]["lone_queries"] == 1


def test_result_is_of_python_numbers():
    found = ranking_metrics(np.eye(3), np.array([0, 0, 1], np.uint8), ks=(1,))
    assert {type(label) for label in found["classes"]} == {int}
    assert [type(value) for value in found["all"].values()] == [float] * 4 + [int] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gallery": np.eye(2)}, "go together; got only gallery"),
        ({"query_labels": [0]}, r"query_labels must have shape \(2,\)"),
        ({"queries": np.full((2, 2), np.nan)}, "queries must be finite; row 0"),
        ({"ties": "random"}, "ties must be one of 'expected', 'worst', 'best'; got"),
        ({"query_ids": [0, 1]}, "go together; got only query_ids"),
        ({"query_ids": [0, 1], "gallery_ids": [0, 1]}, "query_ids needs a gallery"),
        (
            {
                "gallery": np.eye(2),
                "gallery_labels": [0, 1],
                "query_ids": [0, 1],
                "gallery_ids": ["0", "1"],
            },
            "query_ids and gallery_ids must be of one kind",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, message):
    arguments = {"queries": np.eye(2), "query_labels": [0, 1]} | arguments
    for measure in (ranking_metrics, recall_at_k):
        with pytest.raises(ValueError, match=message):
            measure(**arguments)


def test_memory_is_bounded_where_classes_are_few(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.arange(3000) % 2
    embeddings = (labels[:, np.newaxis] + rng.normal(size=(3000, 8))).astype("float32")
    # What the docstring of `rank_counts` has for two processors.
    monkeypatch.setattr(counting, "usable_processors", lambda: 2)
    documented = 2 * 7 * 4 * counting.SIDE**2 + counting.CACHE_BYTES
    documented += 30 * counting._MOST_POSITIVES
    tracemalloc.start()
    try:
        ranking_metrics(embeddings, labels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < documented
