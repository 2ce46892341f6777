from keras_dml.evaluation import format_table

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


COST = "annoy with trees 50, search_k 10,000: 0.750 ms a query; exact search takes "


def table(**changes):
    return format_table({**METRICS, "index": {**METRICS["index"], **changes}})


def test_rows_columns_and_the_agreement_read_as_a_table():
    annoy = (
        "annoy (agrees with exact on 99.8 % of the nearest, 99.1 % of the 10 nearest)"
    )
    gap = len(annoy)
    assert format_table(METRICS).splitlines() == [
        " " * gap + "    R@1    R@10     RP  MAP@R",
        "float".ljust(gap) + "  65.36  100.00  50.00  25.00",
        "binary".ljust(gap) + "   6.00   50.00   6.00   1.00",
        annoy + "  65.00   90.00      –      –",
        COST + "0.500 ms, so it is the cheaper here",
        "60,502 images of 11,316 classes",
    ]


def test_exact_search_is_called_cheaper_only_where_it_is():
    assert table(exact_ms_per_query=0.8).splitlines()[-2] == COST + "0.800 ms"


def test_target_that_was_not_reached_is_said():
    line = table(calibration={"target": 0.99, "reached": False}).splitlines()[-2]
    assert line.endswith("cheaper here; the target of 99 % was not reached")
    assert "target" not in table(calibration={"target": 0.99, "reached": True})


def test_index_of_codes_is_named_so():
    assert "\nannoy, binary (agrees" in table(metric="hamming")


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
    lines = format_table(METRICS).splitlines()[:-2]
    assert len({len(line) for line in lines}) == 1


def test_nmi_is_said_with_how_it_was_measured():
    found = {"nmi": 0.8912, "clusters": 11316, "starts": 10, "library": "faiss 1.15.1"}
    lines = format_table({**METRICS, "clustering": found}).splitlines()
    assert lines[:-2] == format_table(METRICS).splitlines()[:-1]
    assert lines[-2:] == [
        "NMI 89.12 (11,316 clusters by faiss 1.15.1, best of 10)",
        "60,502 images of 11,316 classes",
    ]
