import csv
import json

import numpy as np
import pytest
from PIL import Image

from experiments._studies.ablation_report import write_ablation_report
from experiments._studies.claims import Variant
from tests.experiments.programs import SMALL
from tests.experiments.programs import run_program
from tests.experiments.programs import write_photos

VARIANTS = {
    "temperature": [Variant("0.1", {"temperature": 0.1}), Variant("0.2", {})],
    "sampling": [Variant("class-balanced", {}), Variant("plain", {"balanced": False})],
}
RECALLS = {
    "as_is": (0.5, 0.6, 0.7),
    "temperature=0.1": (0.25, 0.25, 0.25),
    "balanced=False": (0.0, 0.5, 1.0),
}


def made_up_runs():
    """Runs of three variants by three seeds with known recalls."""
    return {
        f"{name},seed={seed}": {
            "seconds": 7,
            "metrics": {
                "float": {"recall@1": recalls[seed], "map@r": 0.1},
                "binary": {"recall@1": recalls[seed] / 2, "map@r": 0.1},
                "images": 12,
            },
        }
        for name, recalls in RECALLS.items()
        for seed in range(3)
    }


def test_table_has_the_mean_and_the_samples_standard_deviation(tmp_path):
    table = write_ablation_report(tmp_path, VARIANTS, [0, 1, 2], made_up_runs())
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    # Deviations of 0.5, 0.6, 0.7: (0.01 + 0 + 0.01) / 2; of 0, 0.5, 1: 0.5 / 2.
    assert [row[:4] for row in rows] == [
        ["temperature", "0.1", "25.0 ± 0.0", "12.5 ± 0.0"],
        ["temperature", "**0.2**", "60.0 ± 10.0", "30.0 ± 5.0"],
        ["sampling", "**class-balanced**", "60.0 ± 10.0", "30.0 ± 5.0"],
        ["sampling", "plain", "50.0 ± 50.0", "25.0 ± 25.0"],
    ]
    assert (tmp_path / "table.md").read_text() == table + "\n"


def test_csv_has_every_figure_of_every_run(tmp_path):
    write_ablation_report(tmp_path, VARIANTS, [0, 1, 2], made_up_runs())
    with open(tmp_path / "results.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 12
    assert rows[1] == {
        "claim": "temperature",
        "value": "0.1",
        "seed": "1",
        "seconds": "7",
        "float recall@1": "0.25",
        "float map@r": "0.1",
        "binary recall@1": "0.125",
        "binary map@r": "0.1",
        "images": "12",
    }


def test_one_seed_has_no_spread(tmp_path):
    table = write_ablation_report(tmp_path, VARIANTS, [1], made_up_runs())
    assert "±" not in table
    assert np.asarray(Image.open(tmp_path / "claims.png")).std() > 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of the photos, that of the results, and the finished program."""
    photos = write_photos(tmp_path_factory.mktemp("photos"))
    folder = tmp_path_factory.mktemp("ablation") / "results"
    return photos, folder, run(photos, folder)


def run(photos, folder, *arguments):
    return run_program(
        "ablation",
        *SMALL,
        f"--data_dir={photos}",
        f"--output_dir={folder}",
        "--seeds=3",
        "--claim=layer normalization",
        *arguments,
    )


@pytest.mark.slow
def test_every_run_is_trained_with_its_settings(finished):
    _, folder, process = finished
    assert process.returncode == 0, process.stderr
    recalls = {
        file.stem: json.loads(file.read_text())["metrics"]["float"]["recall@1"]
        for file in (folder / "runs").iterdir()
    }
    assert set(recalls) == {
        "as_is,seed=3",
        "layer_norm=False,seed=3",
    }
    assert (folder / "table.md").read_text().strip() in process.stdout
    assert process.stderr == ""


@pytest.mark.slow
def test_only_what_is_missing_is_trained_again_and_comes_out_the_same(finished):
    photos, folder, _ = finished
    missing, kept = sorted((folder / "runs").iterdir())[:2]
    before = json.loads(missing.read_text())["metrics"]
    kept_since = kept.stat().st_mtime_ns
    table = (folder / "table.md").read_text()
    missing.unlink()
    process = run(photos, folder)
    assert process.returncode == 0, process.stderr
    assert "1 of 2" in process.stdout
    assert "2 of 2" not in process.stdout
    assert json.loads(missing.read_text())["metrics"] == before
    assert kept.stat().st_mtime_ns == kept_since
    assert (folder / "table.md").read_text() == table


@pytest.mark.slow
def test_other_settings_are_not_mixed_in(finished):
    photos, folder, _ = finished
    process = run(photos, folder, "--config.learning_rate=0.5")
    assert process.returncode == 2
    assert "--config.learning_rate is now 0.5" in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--seeds=1,x", "distinct integers"),
        ("--config.validation_classes=0.4", "--config.validation_classes must be 0"),
    ],
)
def test_wrong_arguments_end_before_any_work(argument, message, finished, tmp_path):
    photos, _, _ = finished
    process = run(photos, tmp_path / "new", argument)
    assert process.returncode == 2
    assert message in process.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("claim", "loss", "message"),
    [
        ("temperature", "proxy_anchor", "--config.loss=proxy_anchor has no temper"),
        ("sampling", "n_pairs", "--config.balanced must be True with --config.loss"),
    ],
)
def test_claim_that_another_loss_does_not_know_is_named(
    claim, loss, message, finished, tmp_path
):
    photos, _, _ = finished
    process = run(photos, tmp_path / "new", f"--claim={claim}", f"--config.loss={loss}")
    assert process.returncode == 2
    assert f"the claim {claim!r} can't be tested: {message}" in process.stderr
    assert "Name the others, each with --claim." in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()
