import csv

import numpy as np
from PIL import Image

from experiments._studies.comparison_report import ComparedLoss
from experiments._studies.comparison_report import write_comparison_report


def made_up_run(recall, nmi=None):
    metrics = {"float": {"recall@1": recall, "map@r": 0.1}, "images": 12}
    if nmi is not None:
        metrics["clustering"] = {"nmi": nmi}
    return {"seconds": 9, "seconds_an_epoch": 2.5, "image_views": 60} | {
        "metrics": metrics
    }


def compared(*nmi):
    """Two losses by three seeds, with known figures."""
    return [
        ComparedLoss(
            "contrastive",
            {0.1: 0.7, 0.3: 0.8, 1.0: 0.2},
            {s: made_up_run(0.25, *nmi) for s in (0, 1, 2)},
        ),
        ComparedLoss(
            "cos_face",
            {0.02: 0.9, 0.06: 0.3, 0.2: 0.1},
            {s: made_up_run((5 + s) / 10, *nmi) for s in (0, 1, 2)},
        ),
    ]


def test_table_has_means_and_deviations_and_the_rate_of_the_validation(tmp_path):
    tables = write_comparison_report(tmp_path, compared(0.5))
    rows = [line.strip("| ").split(" | ") for line in tables.splitlines()]
    same = ["10.0 ± 0.0", "50.0 ± 0.0", "2.5 ± 0.0"]
    # Deviations of 0.5, 0.6, 0.7: (0.01 + 0 + 0.01) / 2.
    assert rows[2:4] == [
        ["cos_face", "class weights", "0.02", "60.0 ± 10.0", *same],
        ["contrastive", "pairs", "0.3", "25.0 ± 0.0", *same],
    ]
    assert rows[-2:] == [
        ["cos_face", "**0.02: 90.0**, 0.06: 30.0, 0.2: 10.0"],
        ["contrastive", "0.1: 70.0, **0.3: 80.0**, 1: 20.0"],
    ]
    assert (tmp_path / "table.md").read_text() == tables + "\n"
    assert np.asarray(Image.open(tmp_path / "comparison.png")).std() > 0


def test_loss_that_was_left_out_is_named_below_the_tables(tmp_path):
    tables = write_comparison_report(tmp_path, compared(), {"n_pairs": "it diverged."})
    assert tables.endswith("\n\nn_pairs is left out: it diverged.")
    assert (tmp_path / "table.md").read_text() == tables + "\n"


def test_nmi_has_a_column_where_it_was_measured(tmp_path):
    assert "NMI" in write_comparison_report(tmp_path, compared(0.5))
    assert "NMI" not in write_comparison_report(tmp_path, compared())


def test_csv_files_have_a_row_a_run_and_a_row_a_rate(tmp_path):
    write_comparison_report(tmp_path, compared())
    results, search = (
        list(csv.DictReader((tmp_path / name).read_text().splitlines()))
        for name in ("results.csv", "search.csv")
    )
    assert len(results) == len(search) == 6
    assert results[1] == {
        "loss": "cos_face",
        "learning rate": "0.02",
        "seed": "1",
        "seconds": "9",
        "seconds_an_epoch": "2.5",
        "image_views": "60",
        "float recall@1": "0.6",
        "float map@r": "0.1",
        "images": "12",
    }
    assert search[-1] == {
        "loss": "contrastive",
        "learning rate": "1.0",
        "validation recall@1": "0.2",
    }
