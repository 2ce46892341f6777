import itertools
import json
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve

from keras_dml._similarity import unit_rows
from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import verification
from keras_dml.evaluation._ranking import pair_counts
from keras_dml.evaluation._ranking import pairs
from keras_dml.evaluation._ranking import rank_search
from tests.evaluation.brute_force import brute_force

RATES = (0, 0.001, 0.1, 0.29, 0.5, 0.9)

# Rows of ±1 have length 2 exactly, so that equal cosines are equal in float32 too.
sign_rows = st.lists(st.sampled_from([-1, 1]), min_size=4, max_size=4)
rows_with_ties = st.one_of(sign_rows, st.just([0, 0, 0, 0]))


@st.composite
def labeled_rows(draw, rows=rows_with_ties, classes=4):
    """Rows and labels, some pairs of which are of one class and some of two."""
    drawn = draw(st.lists(rows, min_size=3, max_size=12))
    others = len(drawn) - 3
    labels = st.lists(st.integers(0, classes - 1), min_size=others, max_size=others)
    return np.array(drawn, float), np.array([0, 0, 1, *draw(labels)])


def float32_cosines(queries, gallery):
    """Cosines of rows of length one in float32, summed in float64 and rounded once."""
    sides = unit_rows(queries).astype(float), unit_rows(gallery).astype(float)
    return (sides[0] @ sides[1].T).astype(np.float32)


def all_pairs(scores, query_labels, gallery_labels=None, left_out=()):
    """(similarity, whether of one class) of every pair, one at a time."""
    if gallery_labels is None:
        pairs = itertools.combinations(range(len(query_labels)), 2)
        gallery_labels = query_labels
    else:
        pairs = itertools.product(range(len(query_labels)), range(len(gallery_labels)))
    pairs = [pair for pair in pairs if pair not in left_out]
    similarities = np.array([scores[pair] for pair in pairs])
    same = [query_labels[i] == gallery_labels[j] for i, j in pairs]
    return similarities, np.array(same, bool)


def check_figures(found, similarities, same, rates, sign=1):
    """Compares with scikit-learn; `sign` is −1 where thresholds are distances."""
    false_rates, true_rates, _ = roc_curve(same, similarities, drop_intermediate=False)
    assert found["positive_pairs"] == np.count_nonzero(same)
    assert found["negative_pairs"] == np.count_nonzero(~same)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(same, similarities))
    # Bisection on the curve, with straight lines between scikit-learn's points.
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        missed = 1 - np.interp(middle, false_rates, true_rates)
        low, high = (middle, high) if missed > middle else (low, middle)
    assert found["equal_error_rate"] == pytest.approx(low, abs=1e-12)
    for rate in map(float, rates):
        keeps = false_rates <= rate
        assert found[f"true_accept_rate@{rate}"] == true_rates[keeps].max()
        threshold = found[f"threshold@{rate}"]
        negatives = similarities[~same]
        assert np.mean(negatives >= sign * threshold) <= rate
        below = sign * threshold - 1
        if sign == 1:
            below = np.nextafter(np.float32(threshold), np.float32(-np.inf))
        assert np.mean(negatives >= below) > rate
        assert found[f"threshold_low@{rate}"] <= found[f"threshold_high@{rate}"]


@settings(max_examples=40, deadline=None)
@given(labeled_rows(), st.sampled_from([np.float16, np.float32, np.float64]))
def test_each_two_images_are_compared_once_as_scikit_learn_does(data, dtype):
    rows, labels = data
    scores = float32_cosines(rows, rows)
    similarities, same = all_pairs(scores, labels)
    found = verification(rows.astype(dtype), labels, false_accept_rates=RATES)
    check_figures(found, similarities, same, RATES)


@settings(max_examples=40, deadline=None)
@given(labeled_rows(), labeled_rows())
def test_each_query_is_compared_with_the_gallery_as_scikit_learn_does(first, second):
    (queries, query_labels), (gallery, gallery_labels) = first, second
    scores = float32_cosines(queries, gallery)
    similarities, same = all_pairs(scores, query_labels, gallery_labels)
    found = verification(
        queries, query_labels, gallery, gallery_labels, false_accept_rates=RATES
    )
    check_figures(found, similarities, same, RATES)


@settings(max_examples=40, deadline=None)
@given(labeled_rows(sign_rows), labeled_rows(sign_rows), st.booleans(), st.booleans())
def test_codes_are_accepted_up_to_a_hamming_distance(first, second, itself, with_faiss):
    (queries, query_labels), (gallery, gallery_labels) = first, second
    queries, gallery = binary_codes(queries), binary_codes(gallery)
    sides = [queries, query_labels, gallery, gallery_labels]
    if itself:
        sides[2:] = queries, None
    similarities, same = all_pairs(brute_force(sides[0], sides[2]), *sides[1::2])
    if itself:
        sides[2:] = []
    if with_faiss:
        found = verification(*sides, false_accept_rates=RATES)
    else:
        with mock.patch("importlib.util.find_spec", lambda name: None):
            found = verification(*sides, false_accept_rates=RATES)
    check_figures(found, similarities, same, RATES, sign=-1)
    assert isinstance(found["threshold@0.5"], int)


def noisy_classes(images, classes, dim=8, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    rows = rng.normal(size=(classes, dim))[labels]
    return (rows + spread * rng.normal(size=(images, dim))).astype(np.float32), labels


def upper_pairs(scores, labels):
    at = np.triu_indices(len(labels), 1)
    return scores[at], labels[at[0]] == labels[at[1]]


@pytest.mark.parametrize(
    "classes",
    [
        pytest.param(2, marks=pytest.mark.slow),
        7,
        pytest.param(300, marks=pytest.mark.slow),
    ],
)
def test_images_of_several_blocks_are_compared_as_scikit_learn_does(
    classes, monkeypatch
):
    monkeypatch.setattr(pairs, "SIDE", 192)
    monkeypatch.setattr(pairs, "CODE_SIDE", 128)
    rows, labels = noisy_classes(700, classes)
    rates = (0, 0.0001, 0.01, 0.3)
    scores = float32_cosines(rows, rows)
    found = verification(rows, labels, false_accept_rates=rates)
    check_figures(found, *upper_pairs(scores, labels), rates)

    codes = binary_codes(rows)
    scores = -np.bitwise_xor(codes[:, np.newaxis], codes)[..., 0].astype(int)
    scores = -np.array([value.bit_count() for value in range(256)])[-scores]
    found = verification(codes, labels, false_accept_rates=rates)
    check_figures(found, *upper_pairs(scores, labels), rates, sign=-1)

    found = verification(
        rows[:300], labels[:300], rows[300:], labels[300:], false_accept_rates=rates
    )
    scores = float32_cosines(rows[:300], rows[300:])
    same = labels[:300, np.newaxis] == labels[300:]
    check_figures(found, scores.ravel(), same.ravel(), rates)


@pytest.mark.parametrize("cells", [4, 2**20])
@pytest.mark.parametrize("deviations", [-3, 0, 6])
def test_more_pairs_than_are_kept_give_the_same_exact_figures(
    cells, deviations, monkeypatch
):
    # With few deviations the sample is often wrong about where a threshold lies, and
    # with few cells it takes several passes to find it.
    monkeypatch.setattr(pairs, "SIDE", 192)
    monkeypatch.setattr(pair_counts, "TAIL_PAIRS", 1000)
    monkeypatch.setattr(pairs, "_SAMPLE", 3000)
    monkeypatch.setattr(rank_search, "_CELLS", cells)
    monkeypatch.setattr(rank_search, "_DEVIATIONS", deviations)
    rows, labels = noisy_classes(500, 40)
    rows[::9] = rows[0]  # ties, of one class and of two
    rates = (0, 0.0001, 0.003, 0.02, 0.2)
    found = verification(rows, labels, false_accept_rates=rates)
    scores = float32_cosines(rows, rows)
    check_figures(found, *upper_pairs(scores, labels), rates)


def test_more_positives_than_levels_move_only_the_area_and_hardly(monkeypatch):
    monkeypatch.setattr(pairs, "SIDE", 192)
    rows, labels = noisy_classes(600, 3)
    exact = verification(rows, labels)
    monkeypatch.setattr(pair_counts, "MOST_LEVELS", 1000)
    monkeypatch.setattr(pair_counts, "_DRAWN_LEVELS", 500)
    found = verification(rows, labels)
    for name in ("equal_error_rate", "roc_auc"):
        assert found.pop(name) == pytest.approx(exact.pop(name), abs=1e-4)
    assert found == exact


def test_hand_worked_pairs():
    angles = np.radians([0, 10, 25, 90, 100])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = verification(rows, list("aabba"), false_accept_rates=(0, 0.5, 0.7))
    # Between a's: 10°, 90°, 100°; between b's: 65°. Between the two: 10°, 15°, 25°,
    # 75°, 80°, 90°. Three of these may be accepted at 0.5, four at 0.7.
    assert (found["positive_pairs"], found["negative_pairs"]) == (4, 6)
    assert found["true_accept_rate@0.5"] == 0.5
    assert found["threshold@0.5"] == pytest.approx(np.cos(np.radians(75)), abs=1e-6)
    assert found["threshold@0.7"] == pytest.approx(np.cos(np.radians(80)), abs=1e-6)
    assert found["true_accept_rate@0.7"] == 0.5
    assert found["unknown_queries"] == 0


def test_collapsed_embeddings_tell_nothing():
    found = verification(np.ones((50, 4)), np.arange(50) % 5)
    assert found["roc_auc"] == found["equal_error_rate"] == 0.5
    assert found["true_accept_rate@0.01"] == 0
    assert found["threshold@0.01"] == np.nextafter(np.float32(1), np.float32(2))


def test_perfectly_separated_classes_have_no_errors():
    found = verification(np.eye(3)[[0, 0, 1, 1, 2, 2]], [0, 0, 1, 1, 2, 2])
    assert (found["roc_auc"], found["equal_error_rate"]) == (1, 0)
    assert found["true_accept_rate@0.0001"] == 1
    assert 0 < found["threshold@0.0001"] < 1e-44


def test_an_image_on_both_sides_is_not_compared_with_itself():
    rows, labels = noisy_classes(30, 4)
    ids = np.arange(30)
    found = verification(
        rows[:20],
        labels[:20],
        rows[10:],
        labels[10:],
        query_ids=ids[:20],
        gallery_ids=ids[10:],
    )
    left_out = {(10 + i, i) for i in range(10)}
    similarities, same = all_pairs(
        float32_cosines(rows[:20], rows[10:]), labels[:20], labels[10:], left_out
    )
    check_figures(found, similarities, same, (0.0001, 0.001, 0.01))


@pytest.mark.parametrize("packed", [False, True])
def test_queries_of_unknown_classes_are_rejected_unless_one_image_is_accepted(packed):
    rows, labels = noisy_classes(120, 30, dim=24)
    queries, query_labels, gallery, gallery_labels = (
        rows[:60],
        labels[:60],
        rows[60:][labels[60:] > 9],
        labels[60:][labels[60:] > 9],
    )
    scores = float32_cosines(queries, gallery)
    if packed:
        queries, gallery = binary_codes(queries), binary_codes(gallery)
        scores = brute_force(queries, gallery)
    found = verification(
        queries, query_labels, gallery, gallery_labels, false_accept_rates=(0.01, 0.2)
    )
    unknown = ~np.isin(query_labels, gallery_labels)
    assert found["unknown_queries"] == np.count_nonzero(unknown) > 10
    for rate in (0.01, 0.2):
        threshold = found[f"threshold@{rate}"] * (-1 if packed else 1)
        rejected = (scores[unknown] < threshold).all(axis=1).mean()
        assert found[f"unknown_rejected@{rate}"] == rejected
    assert 0 < found["unknown_rejected@0.01"] < 1


def test_a_query_whose_class_has_no_other_image_is_of_an_unknown_class(monkeypatch):
    monkeypatch.setattr(pairs, "SIDE", 64)
    rows, labels = noisy_classes(200, 20)
    labels[[3, 50, 120]] = [-1, 1000, 1001]
    scores = float32_cosines(rows, rows)
    np.fill_diagonal(scores, -1)
    found = verification(rows, labels, false_accept_rates=(0.01, 0.1))
    assert found["unknown_queries"] == 3
    for rate in (0.01, 0.1):
        nearest = scores[[3, 50, 120]].max(axis=1)
        rejected = (nearest < found[f"threshold@{rate}"]).mean()
        assert found[f"unknown_rejected@{rate}"] == rejected


def test_nothing_is_said_of_unknown_classes_where_there_are_none():
    found = verification(*noisy_classes(60, 3))
    assert found["unknown_queries"] == 0
    assert not any(name.startswith("unknown_rejected") for name in found)


def naive_interval(rows, labels, gallery, gallery_labels, rate, resamples):
    """Draws classes, and compares all images of those drawn, each time anew."""
    rng = np.random.default_rng(5)
    itself = gallery is None
    if itself:
        gallery, gallery_labels = rows, labels
    scores = float32_cosines(rows, gallery)
    classes = np.union1d(labels, gallery_labels)
    thresholds = []
    for _ in range(resamples):
        drawn = rng.choice(classes, len(classes))
        first = np.concatenate([np.flatnonzero(labels == c) for c in drawn])
        second = np.concatenate([np.flatnonzero(gallery_labels == c) for c in drawn])
        negative = labels[first][:, np.newaxis] != gallery_labels[second]
        if itself:
            negative &= np.tri(len(first), k=-1, dtype=bool)
        negatives = np.sort(scores[np.ix_(first, second)][negative])[::-1]
        thresholds.append(negatives[int(rate * len(negatives))])
    return np.percentile(thresholds, [2.5, 97.5])


@pytest.mark.parametrize("with_gallery", [False, True])
@pytest.mark.parametrize("tail_pairs", [2**16, 8000])
def test_interval_is_that_of_a_bootstrap_that_compares_all_images_anew(
    with_gallery, tail_pairs, monkeypatch
):
    monkeypatch.setattr(pair_counts, "TAIL_PAIRS", tail_pairs)
    rows, labels = noisy_classes(240, 24, dim=6)
    sides = rows, labels, None, None
    if with_gallery:
        sides = rows[:100], labels[:100], rows[100:], labels[100:]
    found = verification(*sides, false_accept_rates=(0.05,))
    low, high = naive_interval(*sides, 0.05, 600)
    middle, error = found["threshold@0.05"], 0.25 * (high - low)
    assert low < middle < high
    assert found["threshold_low@0.05"] == pytest.approx(low, abs=error)
    assert found["threshold_high@0.05"] == pytest.approx(high, abs=error)


def test_interval_depends_on_the_seed_alone_and_nothing_else_on_it(monkeypatch):
    rows, labels = noisy_classes(500, 40)
    monkeypatch.setattr(pair_counts, "TAIL_PAIRS", 2000)
    monkeypatch.setattr(pairs, "SIDE", 128)
    first = verification(rows, labels, seed=1)
    processors = "keras_dml.evaluation._ranking.counting.usable_processors"
    with mock.patch(processors, lambda: 1):
        assert verification(rows, labels, seed=1) == first
    other = verification(rows, labels, seed=2)
    assert other != first
    differing = {name.split("@")[0] for name in first if first[name] != other[name]}
    assert differing <= {"threshold_low", "threshold_high"}


def test_one_rate_has_the_same_figures_whichever_others_are_asked_for(monkeypatch):
    monkeypatch.setattr(pair_counts, "TAIL_PAIRS", 3000)
    rows, labels = noisy_classes(200, 9)
    alone = verification(rows, labels, false_accept_rates=(0.1,))
    among = verification(rows, labels, false_accept_rates=(0.5, 0.1, 0.2))
    assert alone.items() <= among.items()


def test_figures_are_named_after_their_rate_and_are_plain_numbers():
    found = verification(*noisy_classes(60, 6), false_accept_rates=(0.001, 1e-5))
    assert list(found) == [
        "true_accept_rate@0.001",
        "threshold@0.001",
        "threshold_low@0.001",
        "threshold_high@0.001",
        "true_accept_rate@1e-05",
        "threshold@1e-05",
        "threshold_low@1e-05",
        "threshold_high@1e-05",
        "equal_error_rate",
        "roc_auc",
        "positive_pairs",
        "negative_pairs",
        "unknown_queries",
    ]
    assert {type(figure) for figure in found.values()} == {float, int}
    assert json.loads(json.dumps(found)) == found


def test_without_rates_the_curve_alone_is_measured():
    found = verification(*noisy_classes(60, 6), false_accept_rates=())
    assert "@" not in "".join(found)
    assert 0.5 < found["roc_auc"] < 1


def test_inputs_are_left_as_they_were():
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]], np.float32)
    verification(rows, [0, 0, 1])
    assert rows.tolist() == [[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]]


def test_memory_map_is_measured_like_an_array(tmp_path):
    rows, labels = noisy_classes(100, 8)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert verification(mapped, labels) == verification(rows, labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query_labels": [0, 0, 0]}, "no pair of two classes"),
        ({"query_labels": [0, 1, 2]}, "no pair of one class"),
        ({"gallery": np.eye(3)}, "go together; got only gallery"),
        ({"query_labels": [0]}, r"query_labels must have shape \(3,\)"),
        ({"false_accept_rates": (0.1, 1)}, "false_accept_rates holds 1"),
        ({"false_accept_rates": (-0.1,)}, "false_accept_rates holds -0.1"),
        ({"false_accept_rates": (True,)}, "false_accept_rates holds True"),
        ({"false_accept_rates": 0.1}, "false_accept_rates must be a sequence"),
        ({"false_accept_rates": "0.1"}, "false_accept_rates must be a sequence"),
        ({"false_accept_rates": (0.1, 0.1)}, "false_accept_rates must be distinct"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, message):
    arguments = {"queries": np.eye(3), "query_labels": [0, 0, 1]} | arguments
    with pytest.raises(ValueError, match=message):
        verification(**arguments)
