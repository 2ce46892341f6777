"""What the programs make of a loss that becomes infinite or NaN."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from experiments._studies.ablation_report import write_ablation_report
from experiments._studies.claims import Variant
from experiments._studies.comparison_report import ComparedLoss
from experiments._studies.comparison_report import write_comparison_report
from tests.experiments.programs import SMALL
from tests.experiments.programs import run_program
from tests.experiments.programs import write_photos

DIVERGES = "--config.learning_rate=1e30"


def run_of(recall):
    figures = {"recall@1": recall, "map@r": 0.1}
    return {
        "seconds": 9,
        "seconds_an_epoch": 2.5,
        "metrics": {"float": figures, "binary": figures},
    }


def test_ablation_is_over_the_seeds_that_finished_and_names_the_others(tmp_path):
    variants = {"temperature": [Variant("0.1", {"temperature": 0.1}), Variant("2", {})]}
    runs = {"as_is,seed=0": run_of(0.25), "as_is,seed=2": run_of(0.75)}
    failed = {
        "as_is,seed=1": "it became nan.",
        **{f"temperature=0.1,seed={seed}": "it became inf." for seed in range(3)},
    }
    table = write_ablation_report(tmp_path, variants, [0, 1, 2], runs, failed)
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:4]]
    # A deviation of (0.0625 + 0.0625) / 1, of which the root is 0.354.
    assert rows == [
        ["temperature", "0.1 (0 of 3 seeds)", "failed", "failed", "failed"],
        *[["temperature", "**2** (2 of 3 seeds)", *["50.0 ± 35.4"] * 2, "10.0 ± 0.0"]],
    ]
    assert "\n\nas_is,seed=1 failed: it became nan." in table
    assert table.endswith("temperature=0.1,seed=2 failed: it became inf.")
    with open(tmp_path / "results.csv", newline="") as stream:
        found = {
            (row["value"], row["seed"]): (row["failed"], row["float recall@1"])
            for row in csv.DictReader(stream)
        }
    assert found["2", "1"] == ("it became nan.", "")
    assert found["2", "2"] == ("", "0.75")
    assert np.asarray(Image.open(tmp_path / "claims.png")).std() > 0


def test_comparison_marks_rates_and_seeds_that_failed(tmp_path):
    loss = ComparedLoss(
        "contrastive",
        {0.1: 0.7, 0.3: 0.8, 1.0: 0.0},
        {0: run_of(0.25), 2: run_of(0.75)},
        {(1.0, None): "it became inf.", (0.3, 1): "it became nan."},
    )
    tables = write_comparison_report(tmp_path, [loss])
    lines = tables.splitlines()
    assert lines[2].startswith("| contrastive (2 of 3 seeds) | pairs | 0.3 | 50.0 ± 3")
    assert "| contrastive | 0.1: 70.0, **0.3: 80.0**, 1: failed |" in lines
    assert "contrastive: the validation run at 1 failed: it became inf." in lines
    assert lines[-1] == "contrastive: seed 1 at 0.3 failed: it became nan."
    results, search = (
        list(csv.DictReader((tmp_path / name).read_text().splitlines()))
        for name in ("results.csv", "search.csv")
    )
    assert [(row["seed"], row["failed"]) for row in results] == [
        ("0", ""),
        ("2", ""),
        ("1", "it became nan."),
    ]
    assert [row["failed"] for row in search] == ["", "", "it became inf."]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.mark.slow
def test_train_ends_with_one_line_and_writes_no_result(photos, tmp_path):
    folder = tmp_path / "run"
    process = run_program(
        "train",
        *SMALL,
        f"--data_dir={photos}",
        f"--output_dir={folder}",
        "--checkpoint_minutes=0",
        DIVERGES,
    )
    assert process.returncode == 2
    (line,) = process.stderr.strip().splitlines()
    assert re.match(
        r"error: (the loss|a weight) became \S+( or NaN)? at step \d of epoch 1, step "
        r"\d in all, with a learning rate of 1e\+30\. ",
        line,
    )
    left = {path.name for path in folder.iterdir()}
    assert not left & {"metrics.json", "embedding.keras", "index", "serving"}
    checkpoints = sorted((folder / "checkpoints").glob("step-*"))
    if checkpoints:
        assert f"The newest good checkpoint is {checkpoints[-1]}. Train anew" in line
    else:
        assert "There is no good checkpoint of before. Train anew" in line


@pytest.mark.slow
def test_ablation_goes_on_and_tries_the_failed_run_again(photos, tmp_path):
    folder = tmp_path / "ablation"
    arguments = (
        *("ablation", *SMALL, f"--data_dir={photos}", f"--output_dir={folder}"),
        *("--seeds=3", "--claim=layer normalization", DIVERGES),
    )
    process = run_program(*arguments)
    assert process.returncode == 2
    assert "every run failed, so there is no table" in process.stderr
    assert process.stdout.count(" failed: with --config.loss=normalized_sof") == 2
    assert not list((folder / "runs").iterdir())
    # One of the two is done, as if it had not diverged.
    images = {"images": 36, "classes": 6}
    run = {**run_of(0.5), "metrics": {**run_of(0.5)["metrics"], **images}}
    (folder / "runs" / "as_is,seed=3.json").write_text(json.dumps(run))
    process = run_program(*arguments)
    assert process.returncode == 0, process.stderr
    assert "2 runs, 1 of them finished before" in process.stdout
    assert "(0 of 1 seeds) | failed | failed | failed |" in process.stdout
    assert "layer_norm=False,seed=3 failed: with" in (folder / "table.md").read_text()
    assert [file.stem for file in (folder / "runs").iterdir()] == ["as_is,seed=3"]
