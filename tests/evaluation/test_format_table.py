from keras_dml.evaluation import format_table

METRICS = {
    "float": {"recall@1": 0.65361, "recall@10": 1.0, "r_precision": 0.5, "map@r": 0.25},
    "binary": {"recall@1": 0.06, "recall@10": 0.5, "r_precision": 0.06, "map@r": 0.01},
    "annoy": {
        "recall@1": 0.65,
        "recall@10": 0.9,
        "agreement@1": 0.998,
        "trees": 50,
        "search_k": 10000,
    },
    "images": 60502,
    "classes": 11316,
    "lone_queries": 0,
}


def test_rows_columns_and_the_agreement_read_as_a_table():
    annoy = "annoy (50 trees, agrees with exact on 99.8 % of nearest neighbours)"
    gap = len(annoy)
    assert format_table(METRICS).splitlines() == [
        " " * gap + "    R@1    R@10     RP  MAP@R",
        "float".ljust(gap) + "  65.36  100.00  50.00  25.00",
        "binary".ljust(gap) + "   6.00   50.00   6.00   1.00",
        annoy + "  65.00   90.00      –      –",
        "60,502 images of 11,316 classes",
    ]


def test_queries_that_cannot_find_anything_are_said():
    lines = format_table({**METRICS, "lone_queries": 1200}).splitlines()
    assert lines[-1] == (
        "60,502 images of 11,316 classes; 1,200 queries have no other image, and miss"
    )


def test_lines_of_the_table_are_of_one_length():
    lines = format_table(METRICS).splitlines()[:-1]
    assert len({len(line) for line in lines}) == 1


def test_nmi_is_said_with_how_it_was_measured():
    found = {"nmi": 0.8912, "clusters": 11316, "starts": 10, "library": "faiss 1.15.1"}
    lines = format_table({**METRICS, "clustering": found}).splitlines()
    assert lines[:-2] == format_table(METRICS).splitlines()[:-1]
    assert lines[-2:] == [
        "NMI 89.12 (11,316 clusters by faiss 1.15.1, best of 10)",
        "60,502 images of 11,316 classes",
    ]
