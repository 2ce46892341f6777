import csv
import json

import pytest

from experiments._studies.search_learning_rate import best_rate
from tests.experiments.programs import SMALL
from tests.experiments.programs import run_program
from tests.experiments.programs import write_photos

# Class means are for the losses that have class weights.
BATCH = (
    *("--config.classes=2", "--config.nmi_starts=1"),
    "--config.class_weights=means",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of the photos, that of the results, and the finished program."""
    photos = write_photos(tmp_path_factory.mktemp("photos"))
    folder = tmp_path_factory.mktemp("comparison") / "results"
    return photos, folder, run(photos, folder)


def run(photos, folder, *arguments):
    return run_program(
        "compare_losses",
        *(*SMALL, *BATCH),
        f"--data_dir={photos}",
        f"--output_dir={folder}",
        "--seeds=3,4",
        "--loss=normalized_softmax",
        "--loss=triplet_semi_hard",
        "--rates=3",
        *arguments,
    )


def runs_of(folder, kind, loss):
    """{(learning rate, seed): the run} of the files."""
    found = {}
    for file in (folder / "runs").glob(f"{kind},loss={loss},*.json"):
        words = dict(word.split("=") for word in file.stem.split(",")[2:])
        key = float(words["learning_rate"]), int(words["seed"])
        found[key] = json.loads(file.read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "rates"),
    [
        ("normalized_softmax", (0.003, 0.01, 0.03)),
        ("triplet_semi_hard", (0.03, 0.1, 0.3)),
    ],
)
def test_rate_is_best_on_classes_held_out_and_tested_with_every_seed(
    loss, rates, finished
):
    _, folder, process = finished
    assert process.returncode == 0, process.stderr
    searched = runs_of(folder, "validation", loss)
    assert sorted(searched) == [(rate, 3) for rate in rates]
    # A quarter of six classes, of six images each.
    assert {run["metrics"]["images"] for run in searched.values()} == {12}
    recalls = {
        rate: run["metrics"]["float"]["recall@1"] for (rate, _), run in searched.items()
    }
    tested = runs_of(folder, "test", loss)
    assert sorted(tested) == [(best_rate(recalls), 3), (best_rate(recalls), 4)]
    assert {run["metrics"]["images"] for run in tested.values()} == {36}


@pytest.mark.slow
def test_every_loss_sees_as_many_images(finished):
    _, folder, process = finished
    with open(folder / "results.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    # Two epochs of 36 images in batches of 2 × 3.
    assert [row["image_views"] for row in rows] == ["72"] * 4
    assert (folder / "table.md").read_text().strip() in process.stdout
    assert process.stderr == ""


@pytest.mark.slow
def test_only_what_is_missing_is_trained_again_and_comes_out_the_same(finished):
    photos, folder, _ = finished
    missing, kept = sorted((folder / "runs").glob("test,*.json"))[:2]
    before = json.loads(missing.read_text())["metrics"]
    kept_since = kept.stat().st_mtime_ns
    missing.unlink()
    process = run(photos, folder)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("learning_rate=") == 1
    assert json.loads(missing.read_text())["metrics"] == before
    assert kept.stat().st_mtime_ns == kept_since


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--seeds=1,1", "distinct integers"),
        ("--config.classes=5", "4 classes are left to train on"),
    ],
)
def test_wrong_arguments_end_before_any_work(argument, message, finished, tmp_path):
    photos, _, _ = finished
    process = run(photos, tmp_path / "new", argument)
    assert process.returncode == 2
    assert message in process.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.long
def test_loss_that_diverges_is_left_out_and_others_go_on(finished, tmp_path):
    photos, folder, _ = finished
    again = tmp_path / "again"
    diverging = "--config.learning_rate=1e30"
    process = run(photos, again, diverging)
    assert process.returncode == 2
    assert "every loss diverged" in process.stderr
    # The normalized softmax is done, as are the validation runs of the other.
    for rates, loss in (
        (("3e+29", "1e+30", "3e+30"), "normalized_softmax"),
        (("3e+30", "1e+31", "3e+31"), "triplet_semi_hard"),
    ):
        kinds = (
            ("validation", "test") if loss == "normalized_softmax" else ("validation",)
        )
        for kind in kinds:
            done = next((folder / "runs").glob(f"{kind},loss={loss},*.json"))
            for rate in rates:
                for seed in (3, 4):
                    name = f"{kind},loss={loss},learning_rate={rate},seed={seed}.json"
                    (again / "runs" / name).write_text(done.read_text())
    process = run(photos, again, diverging)
    assert process.returncode == 0, process.stderr
    last = process.stdout.splitlines()[-1]
    assert last.startswith("triplet_semi_hard is left out: with --config.loss=triplet_")
    assert "a learning rate of 3e+30 the loss became" in last
    assert "| normalized_softmax |" in (again / "table.md").read_text()
