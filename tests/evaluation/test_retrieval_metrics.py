import json

import numpy as np
import pytest

from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import format_table
from keras_dml.evaluation import index_metrics
from keras_dml.evaluation import k_means
from keras_dml.evaluation import normalized_mutual_information
from keras_dml.evaluation import ranking_metrics
from keras_dml.evaluation import recall_at_k
from keras_dml.evaluation import retrieval_metrics
from keras_dml.evaluation import verification
from keras_dml.search import AnnoyNeighbors
from keras_dml.search import ExactNeighbors

LABELS = np.random.default_rng(1).integers(0, 15, 120)


@pytest.fixture(scope="module")
def embeddings():
    rng = np.random.default_rng(0)
    return rng.normal(size=(15, 24))[LABELS] + 1.5 * rng.normal(size=(120, 24))


def exact(*arguments):
    """The exact figures, which have tests of their own, without the counts."""
    figures = ranking_metrics(*arguments)["all"]
    del figures["queries"], figures["lone_queries"]
    return figures


def divided(embeddings):
    """Every third image as a query, the others as the gallery."""
    is_query = np.arange(120) % 3 == 0
    return (
        embeddings[is_query],
        LABELS[is_query],
        embeddings[~is_query],
        LABELS[~is_query],
    )


def exhaustive(rows):
    index = AnnoyNeighbors(trees=10, search_k=10**5)
    index.build(rows)
    return index


def untimed(figures):
    times = ("ms_per_query", "exact_ms_per_query")
    return {name: value for name, value in figures.items() if name not in times}


def test_self_retrieval_reports_the_three_searches(embeddings):
    index = exhaustive(embeddings)
    metrics = retrieval_metrics(embeddings, LABELS, ks=(1, 5), index=index)
    by_index = index_metrics(index, embeddings, LABELS, ks=(1, 5))
    assert untimed(metrics.pop("index")) == untimed(by_index)
    assert metrics == {
        "float": exact(embeddings, LABELS, None, None, (1, 5)),
        "binary": exact(binary_codes(embeddings), LABELS, None, None, (1, 5)),
        "images": 120,
        "classes": 15,
        "lone_queries": 0,
    }


def test_queries_search_the_gallery_alone(embeddings):
    queries, query_labels, gallery, gallery_labels = divided(embeddings)
    sides = queries, query_labels, gallery, gallery_labels
    index = exhaustive(gallery)
    metrics = retrieval_metrics(*sides, (1, 5), index)
    by_cosine = recall_at_k(*sides, ks=(1, 5))
    codes = binary_codes(queries), query_labels, binary_codes(gallery), gallery_labels
    assert metrics["float"] == exact(*sides, (1, 5))
    assert metrics["binary"] == exact(*codes, (1, 5))
    assert metrics["index"]["recall@5"] == pytest.approx(by_cosine["recall@5"])
    assert metrics["index"]["agreement@1"] == 1.0
    assert (metrics["images"], metrics["classes"]) == (120, 15)


def test_exact_index_adds_nothing(embeddings):
    index = ExactNeighbors()
    index.build(embeddings)
    assert "index" not in retrieval_metrics(embeddings, LABELS, index=index)


def test_agreement_falls_when_the_index_inspects_too_little(embeddings):
    index = AnnoyNeighbors(trees=1, search_k=1)
    index.build(embeddings)
    metrics = retrieval_metrics(embeddings, LABELS, index=index)
    assert metrics["index"]["agreement@1"] < 0.9
    assert metrics["index"]["parameters"]["search_k"] == 1


@pytest.mark.parametrize("with_gallery", [False, True])
def test_nmi_is_that_of_all_images_in_as_many_clusters_as_classes(
    embeddings, with_gallery
):
    sides = divided(embeddings) if with_gallery else (embeddings, LABELS)
    metrics = retrieval_metrics(*sides, seed=5, nmi_starts=3)
    everything, labels = np.concatenate(sides[::2]), np.concatenate(sides[1::2])
    clusters, library = k_means(everything, 15, starts=3, seed=5)
    assert metrics["clustering"] == {
        "nmi": normalized_mutual_information(labels, clusters),
        "clusters": 15,
        "starts": 3,
        "library": library,
    }
    assert 0.3 < metrics["clustering"]["nmi"] < 1


def test_metrics_are_plain_numbers_that_json_keeps(embeddings):
    index = exhaustive(embeddings)
    metrics = retrieval_metrics(
        embeddings, LABELS, None, None, np.array([1, 500]), index, nmi_starts=1
    )
    assert json.loads(json.dumps(metrics)) == metrics
    assert list(metrics["float"]) == [
        "recall@1",
        "recall@500",
        "mrr",
        "r_precision",
        "map@r",
    ]


def test_queries_without_another_image_are_counted(embeddings):
    labels = np.append(LABELS[:-2], [100, 101])
    assert retrieval_metrics(embeddings, labels)["lone_queries"] == 2


def test_list_of_labels_below_and_beyond_int64_is_measured_as_such(embeddings):
    labels = [2**63 + label if label > 7 else label for label in LABELS.tolist()]
    settings = {"index": exhaustive(embeddings), "nmi_starts": 1}
    metrics = retrieval_metrics(embeddings, labels, **settings)
    expected = retrieval_metrics(embeddings, LABELS, **settings)
    assert untimed(metrics.pop("index")) == untimed(expected.pop("index"))
    assert metrics == expected


def test_string_labels_are_counted_as_classes(embeddings):
    metrics = retrieval_metrics(embeddings, LABELS.astype(str), nmi_starts=1)
    assert metrics["classes"] == metrics["clustering"]["clusters"] == 15


def test_classes_of_both_sides_are_counted_once():
    queries, gallery = np.eye(2), np.eye(3)[:, :2] + 0.1
    metrics = retrieval_metrics(queries, ["a", "b"], gallery, ["b", "c", "c"], ks=(1,))
    assert (metrics["images"], metrics["classes"]) == (5, 3)
    assert metrics["lone_queries"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gallery": np.ones((120, 24))}, "go together; got only gallery"),
        ({"gallery_labels": LABELS}, "go together; got only gallery_labels"),
        (
            {"gallery": np.eye(120), "gallery_labels": LABELS},
            r"rows of one width; got shapes \(120, 24\) and \(120, 120\)",
        ),
        (
            {"gallery": np.ones((120, 24), np.uint8), "gallery_labels": LABELS},
            "gallery must be float16.*got uint8, which here means packed codes",
        ),
        (
            {"gallery": np.ones((0, 24)), "gallery_labels": []},
            "gallery must hold at least one row",
        ),
        ({"query_labels": LABELS[:119]}, r"query_labels must have shape \(120,\)"),
        ({"queries": np.ones((0, 24))}, "queries must hold at least one row"),
    ],
)
def test_sides_that_do_not_fit_are_refused(embeddings, arguments, message):
    arguments = {"queries": embeddings, "query_labels": LABELS} | arguments
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(**arguments)


def test_a_single_image_is_refused():
    with pytest.raises(ValueError, match="queries has one row, and so nothing to find"):
        retrieval_metrics(np.ones((1, 3)), [0])


def test_negative_number_of_starts_is_refused(embeddings):
    with pytest.raises(ValueError, match="nmi_starts must be an integer of at least 0"):
        retrieval_metrics(embeddings, LABELS, nmi_starts=-1)


METRICS = {
    "float": {"recall@1": 0.65361, "recall@10": 1.0, "r_precision": 0.5, "map@r": 0.25},
    "binary": {"recall@1": 0.06, "recall@10": 0.5, "r_precision": 0.06, "map@r": 0.01},
    "index": {
        "kind": "annoy",
        "metric": "cosine",
        "recall@1": 0.65,
        "recall@10": 0.9,
        "agreement@1": 0.998,
        "agreement@10": 0.9912,
        "ms_per_query": 0.75,
        "exact_ms_per_query": 0.5,
        "parameters": {"trees": 50, "search_k": 10000},
        "calibration": None,
    },
    "images": 60502,
    "classes": 11316,
    "lone_queries": 0,
}


COST = "annoy with trees 50, search_k 10,000 takes 0.750 ms a query and exact search\n"


def table(**changes):
    return format_table({**METRICS, "index": {**METRICS["index"], **changes}})


def test_rows_columns_agreement_and_costs_read_as_a_table():
    assert format_table(METRICS) == (
        "          R@1    R@10     RP  MAP@R\n"
        "float   65.36  100.00  50.00  25.00\n"
        "binary   6.00   50.00   6.00   1.00\n"
        "annoy   65.00   90.00      –      –\n"
        "annoy agrees with exact search on 99.8 % of the nearest and 99.1 % of the 10\n"
        "nearest\n"
        + COST
        + "0.500 ms, so exact search is the cheaper here\n"
        + "60,502 images of 11,316 classes"
    )


@pytest.mark.parametrize("ks", [(1, 2, 4, 8), (1, 10, 20, 30, 40, 50), (1, 1000)])
def test_table_of_up_to_six_ks_fits_80_columns(ks):
    names = [*(f"recall@{k}" for k in ks), "mrr", "r_precision", "map@r"]
    perfect = dict.fromkeys(names, 1.0)
    index = {
        "kind": "annoy",
        "metric": "hamming",
        **dict.fromkeys(names[:-3], 1.0),
        "agreement@1": 1.0,
        f"agreement@{ks[-1]}": 0.992,
        "ms_per_query": 123.456,
        "exact_ms_per_query": 12.345,
        "parameters": {"trees": 100, "search_k": 10**6, "seed": 2**31 - 1},
        "calibration": {"target": 0.99, "reached": False},
    }
    found = {"nmi": 0.8912, "clusters": 11316, "starts": 10, "library": "faiss 1.15.1"}
    metrics = {
        "float": perfect,
        "binary": perfect,
        "index": index,
        "clustering": found,
        "images": 10**7,
        "classes": 10**6,
        "lone_queries": 10**6,
    }
    assert max(map(len, format_table(metrics).splitlines())) <= 80


def test_exact_search_is_called_cheaper_only_where_it_is():
    assert COST + "0.800 ms\n" in table(exact_ms_per_query=0.8)


def test_target_that_was_not_reached_is_said():
    text = table(calibration={"target": 0.99, "reached": False}).replace("\n", " ")
    assert "cheaper here; the target of 99 % was not reached 60,502 images" in text
    assert "target" not in table(calibration={"target": 0.99, "reached": True})


def test_no_line_ends_between_a_number_and_its_percent_sign():
    for digits in range(1, 30):
        parameters = {"n": 10**digits}
        text = table(
            kind="k" * digits,
            parameters=parameters,
            calibration={"target": 0.99, "reached": False},
        )
        assert "\n%" not in text
        assert "\N{NO-BREAK SPACE}" not in text


def test_index_of_codes_is_named_so():
    text = table(metric="hamming")
    assert "\nannoy of binary codes agrees with exact search on" in text
    assert "\nannoy of binary codes with trees 50" in text


def test_index_without_parameters_is_written_without_them():
    assert "\nannoy takes 0.750 ms a query" in table(parameters={})


def test_without_an_index_nothing_is_said_of_one():
    exact = {name: value for name, value in METRICS.items() if name != "index"}
    assert "agrees" not in format_table(exact)
    assert "ms" not in format_table(exact)


def test_queries_that_cannot_find_anything_are_said():
    lines = format_table({**METRICS, "lone_queries": 1200}).splitlines()
    assert lines[-1] == (
        "60,502 images of 11,316 classes; 1,200 queries have no other image, and miss"
    )


def test_lines_of_the_table_are_of_one_length():
    lines = format_table(METRICS).splitlines()[:4]
    assert len({len(line) for line in lines}) == 1


def test_nmi_is_said_with_how_it_was_measured():
    found = {"nmi": 0.8912, "clusters": 11316, "starts": 10, "library": "faiss 1.15.1"}
    lines = format_table({**METRICS, "clustering": found}).splitlines()
    assert lines[:-2] == format_table(METRICS).splitlines()[:-1]
    assert lines[-2:] == [
        "NMI 89.12 (11,316 clusters by faiss 1.15.1, best of 10)",
        "60,502 images of 11,316 classes",
    ]


@pytest.mark.parametrize("with_gallery", [False, True])
def test_verification_is_measured_by_cosine_and_code_where_rates_are_given(
    embeddings, with_gallery
):
    sides = divided(embeddings) if with_gallery else (embeddings, LABELS)
    rates = (0.001, 0.05)
    metrics = retrieval_metrics(*sides, seed=3, false_accept_rates=rates)
    codes = list(sides)
    codes[::2] = map(binary_codes, sides[::2])
    settings = {"false_accept_rates": rates, "seed": 3}
    assert metrics["verification"] == {
        "float": verification(*sides, **settings),
        "binary": verification(*codes, **settings),
    }
    assert json.loads(json.dumps(metrics)) == metrics
    assert "verification" not in retrieval_metrics(*sides)


def test_rates_are_checked_before_anything_is_measured(embeddings):
    with pytest.raises(ValueError, match="false_accept_rates holds 2"):
        retrieval_metrics(embeddings, LABELS, false_accept_rates=(2,))


def test_table_has_a_line_for_each_rate_and_kind_of_verification(embeddings):
    metrics = retrieval_metrics(embeddings, LABELS)
    without = format_table(metrics)
    metrics["verification"] = {
        "float": {
            "true_accept_rate@0.0001": 0.4321,
            "threshold@0.0001": 0.51234,
            "threshold_low@0.0001": 0.49876,
            "threshold_high@0.0001": 0.52345,
            "equal_error_rate": 0.0512,
            "roc_auc": 0.987,
            "positive_pairs": 174_000,
            "negative_pairs": 17_370_926,
            "unknown_queries": 0,
        },
        "binary": {
            "true_accept_rate@0.0001": 0.4,
            "threshold@0.0001": 160,
            "threshold_low@0.0001": 158,
            "threshold_high@0.0001": 163,
            "equal_error_rate": 0.06,
            "roc_auc": 0.98,
            "positive_pairs": 174_000,
            "negative_pairs": 17_370_926,
            "unknown_queries": 0,
        },
    }
    assert format_table(metrics).splitlines() == [
        *without.splitlines(),
        "",
        "         FAR    TAR  threshold     95 % interval",
        "float   0.01  43.21     0.5123  0.4988 to 0.5234",
        "binary  0.01  40.00        160        158 to 163",
        "EER 5.12 by float and 6.00 by binary; AUC 98.70 by float and 98.00 by binary",
        "174,000 pairs of one class and 17,370,926 of two",
    ]
    for figures in metrics["verification"].values():
        figures |= {"unknown_queries": 1234, "unknown_rejected@0.0001": 0.875}
    lines = format_table(metrics).splitlines()
    assert lines[lines.index("") + 1 :][:3] == [
        "         FAR    TAR  threshold     95 % interval  rejected",
        "float   0.01  43.21     0.5123  0.4988 to 0.5234     87.50",
        "binary  0.01  40.00        160        158 to 163     87.50",
    ]
    assert "of two; 1,234 queries of unknown classes" in " ".join(lines)
    assert max(map(len, lines)) <= 80


def test_what_is_no_index_is_refused_before_anything_is_measured():
    with pytest.raises(ValueError, match=r"index must be an index of .*'annoy'"):
        retrieval_metrics(np.eye(4), [0, 0, 1, 1], index="annoy")


@pytest.mark.parametrize("metrics", [{}, None, {"float": {}}])
def test_table_of_something_else_is_refused(metrics):
    with pytest.raises(ValueError, match="metrics must be what retrieval_metrics"):
        format_table(metrics)


def test_table_has_rows_of_the_model_before_training():
    rng = np.random.default_rng(0)
    labels = np.arange(12) % 3
    untrained, metrics = (
        retrieval_metrics(rng.normal(size=(12, 40)), labels, ks=(1, 2, 4, 8, 16, 32))
        for _ in range(2)
    )
    plain = format_table(metrics).splitlines()
    lines = format_table({**metrics, "untrained": untrained}).splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line[:13].strip(): line.split() for line in lines}
    for kind in ("float", "binary"):
        recall = untrained[kind]["recall@1"]
        assert rows[f"{kind} before"][2] == f"{100 * recall:.2f}"
    assert len(lines) == len(plain) + 2
