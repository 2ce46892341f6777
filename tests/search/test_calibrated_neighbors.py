import dataclasses
import importlib
import warnings

import numpy as np
import pytest

from keras_dml.evaluation import binary_codes
from keras_dml.search import calibrated_neighbors
from keras_dml.search import load_neighbors
from keras_dml.search._least_effort import least_effort
from tests.evaluation.brute_force import brute_force

module = importlib.import_module("keras_dml.search.calibrated_neighbors")


def hard(rows, seed=0):
    """Embeddings as near to one another as random ones are, which indexes find hard."""
    return np.random.default_rng(seed).normal(size=(rows, 48)).astype(np.float32)


def share_found(index, queries, gallery, k):
    """The k-nearest sets in common, by brute force; nothing ties in these data."""
    if gallery.dtype == np.uint8:
        signs = [np.unpackbits(c, axis=1) * 2.0 - 1 for c in (queries, gallery)]
        scores = signs[0] @ signs[1].T
    else:
        scores = brute_force(queries, gallery)
    kth = -np.sort(-scores, axis=1)[:, k - 1 : k]
    ids, _ = index.search(queries, k)
    return np.mean((np.take_along_axis(scores, ids, 1) >= kth - 1e-6) & (ids >= 0))


@pytest.mark.parametrize("kind", ["annoy", "hnsw"])
@pytest.mark.parametrize("metric", ["cosine", "hamming"])
def test_target_holds_for_queries_that_were_not_in_the_sample(kind, metric):
    gallery, sample, others = hard(6000), hard(1500, seed=1), hard(1500, seed=2)
    if metric == "hamming":
        gallery, sample, others = map(binary_codes, (gallery, sample, others))
    index = calibrated_neighbors(kind, gallery, 5, queries=sample, target=0.95)
    assert index.calibration.reached
    assert index.calibration.agreement >= 0.95
    # Three standard deviations below the target, of which each query's share has ¼.
    assert share_found(index, others, gallery, 5) >= 0.95 - 3 * 0.25 / 1500**0.5


@pytest.mark.parametrize("kind", ["annoy", "hnsw"])
def test_uncalibrated_effort_would_not_do(kind):
    gallery, others = hard(6000), hard(500, seed=2)
    index = calibrated_neighbors(kind, gallery, 5, target=0.99)
    assert share_found(index, others, gallery, 5) > 0.97
    if kind == "annoy":
        index.search_k = 5 * index.trees
    else:
        index.ef_search = 5
    assert share_found(index, others, gallery, 5) < 0.95


@pytest.mark.parametrize("kind", ["annoy", "hnsw"])
def test_without_queries_the_target_holds_for_rows_never_indexed(kind):
    index = calibrated_neighbors(kind, hard(6000), 5, target=0.95)
    assert (index.count, index.calibration.queries) == (6000, 600)
    assert share_found(index, hard(1500, seed=2), hard(6000), 5) >= 0.93


def test_same_seed_gives_the_same_index_and_calibration(tmp_path):
    gallery = hard(2000)
    first, again, other = (
        calibrated_neighbors("annoy", gallery, 5, target=0.9, seed=seed)
        for seed in (3, 3, 4)
    )
    assert first.parameters == again.parameters
    assert first.parameters["seed"] == first.calibration.seed == 3
    times = {"ms_per_query": 0.0, "exact_ms_per_query": 0.0}
    alike = [dataclasses.replace(i.calibration, **times) for i in (first, again)]
    assert alike[0] == alike[1]
    assert other.calibration.agreement != first.calibration.agreement


def test_exact_search_is_found_cheaper_where_it_is():
    calibration = calibrated_neighbors("annoy", hard(3000), 5).calibration
    assert 0 < calibration.exact_ms_per_query < calibration.ms_per_query


def test_calibration_is_kept_in_the_file_with_the_ids(tmp_path):
    names = np.arange(500) * 3
    index = calibrated_neighbors("annoy", hard(500), 5, ids=names)
    index.save(tmp_path / "index")
    loaded = load_neighbors(tmp_path / "index")
    assert loaded.calibration == index.calibration
    np.testing.assert_array_equal(loaded.ids, names)
    assert loaded.search(hard(500)[7:8], 1)[0].tolist() == [[21]]


def test_target_out_of_reach_is_said_with_the_best_found(monkeypatch):
    ladder = dataclasses.replace(module._LADDERS["annoy"], most=60)
    monkeypatch.setitem(module._LADDERS, "annoy", ladder)
    with pytest.warns(UserWarning, match=r"short of the target of 99 %.*'trees': "):
        index = calibrated_neighbors("annoy", hard(3000), 5)
    assert not index.calibration.reached
    assert 0 < index.calibration.agreement < 0.9
    assert index.search_k == 60


def test_more_trees_are_tried_before_giving_up(monkeypatch):
    built = []
    ladder = module._LADDERS["annoy"]

    def build(trees, seed):
        built.append(trees)
        return ladder.build(trees, seed)

    monkeypatch.setitem(
        module._LADDERS,
        "annoy",
        dataclasses.replace(ladder, build=build, most=60),
    )
    with pytest.warns(UserWarning):
        calibrated_neighbors("annoy", hard(1000), 5)
    assert built == [50, 100]


def test_effort_is_within_a_fifth_of_the_least():
    effort, found, reached = least_effort(
        lambda effort: (effort / 1000, effort >= 700), 10, 10**6
    )
    assert reached
    assert found == effort / 1000
    assert 700 <= effort < 1.2 * 700


def test_exact_needs_no_calibration():
    index = calibrated_neighbors("exact", hard(50), 5)
    assert (index.kind, index.calibration) == ("exact", None)


def test_k_beyond_what_there_is_asks_for_all_of_it():
    index = calibrated_neighbors("annoy", hard(20), 1000)
    assert index.calibration.k == 15  # five of twenty are held out
    assert index.calibration.agreement == 1.0
    assert index.search(hard(1), 1000)[0].shape == (1, 20)


@pytest.mark.filterwarnings("ignore:.*too few to show")
@pytest.mark.parametrize("kind", ["annoy", "hnsw"])
def test_duplicates_agree(kind):
    index = calibrated_neighbors(kind, np.repeat(np.eye(4), 20, axis=0), 3)
    assert index.calibration.agreement == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "tree"}, "kind must be one of 'exact', 'annoy', 'hnsw'; got 'tree'"),
        ({"k": 0}, "k must be an integer"),
        ({"target": 0}, "target must be a number above 0 and at most 1"),
        ({"target": 1.01}, "target must be a number above 0 and at most 1"),
        ({"target": float("nan")}, "target must be a number above 0 and at most 1"),
        ({"seed": -1}, "seed must be an integer"),
        ({"embeddings": np.ones((1, 4))}, "has one row"),
        ({"queries": np.ones((3, 5))}, "rows of one width"),
        ({"queries": np.ones((3, 48), np.uint8)}, "both be float"),
        ({"ids": [1]}, "ids must be integers"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes, message):
    arguments = {"kind": "annoy", "embeddings": hard(20), "k": 5} | changes
    with pytest.raises(ValueError, match=message):
        calibrated_neighbors(**arguments)


@pytest.mark.parametrize("kind", ["annoy", "hnsw"])
@pytest.mark.parametrize(("rows", "k"), [(12, 8), (30, 8), (60, 1), (200, 8)])
def test_few_rows_do_not_pass_for_a_proof(kind, rows, k):
    short = 0
    for seed in range(5):
        gallery = hard(rows, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            index = calibrated_neighbors(kind, gallery, k, seed=seed)
        others = hard(300, seed=100 + seed)
        truth = share_found(index, others, gallery, k)
        short += index.calibration.reached and truth < 0.985
        if kind == "annoy":
            assert (index.calibration.reached, truth) == (True, 1.0)
    assert short == 0


def test_too_few_queries_are_said_to_be():
    with pytest.warns(
        UserWarning, match=r"100\.00 % of .* 10 queries, too few to show"
    ):
        index = calibrated_neighbors("hnsw", hard(40), 3)
    assert not index.calibration.reached


def test_what_falls_short_at_once_is_measured_on_the_whole_sample(monkeypatch):
    ladder = dataclasses.replace(module._LADDERS["annoy"], most=300)
    monkeypatch.setitem(module._LADDERS, "annoy", ladder)
    gallery, sample = hard(2000), hard(900, seed=1)
    with pytest.warns(UserWarning, match="of 900 queries, short of"):
        index = calibrated_neighbors("annoy", gallery, 5, queries=sample)
    found = share_found(index, sample, gallery, 5)
    assert index.calibration.agreement == pytest.approx(found)
