import json
import shutil

import pytest

from tests import fork_server
from tests.experiments.programs import SMALL
from tests.experiments.programs import run_program
from tests.experiments.programs import write_photos
from tests.soak.soak import outcome


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


def arguments(photos, run):
    return (
        *SMALL,
        "--config.frozen_epochs=1",
        "--config.nmi_starts=0",
        "--checkpoint_minutes=0",
        f"--data_dir={photos}",
        f"--output_dir={run}",
    )


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """The folder of a run that was never stopped."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    finished = run_program("train", *arguments(photos, run))
    assert finished.returncode == 0, finished.stderr
    return run


@pytest.mark.parametrize(
    ("phase", "entry"),
    [
        ("training", 1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("data preparation", 1),
                ("frozen epochs", 1),
                ("evaluation", 2),
                ("checkpoint writing", 1),
                ("checkpoint writing", 7),
                ("export", 1),
                ("report", 1),
            )
        ),
    ],
)
def test_killed_run_ends_as_if_never_killed(phase, entry, photos, whole, tmp_path):
    run = tmp_path / "run"
    killed = fork_server.run_module(
        "tests.experiments.killed", phase, entry, *arguments(photos, run)
    )
    assert killed.returncode == -9, killed.stderr
    finished = run_program("train", *arguments(photos, run))
    assert finished.returncode == 0, finished.stderr
    assert outcome(run) == outcome(whole)


def test_finished_run_says_so_and_changes_nothing(photos, whole):
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*")}
    again = run_program("train", *arguments(photos, whole))
    assert again.returncode == 0
    assert again.stdout == f"{whole} is finished already; nothing is left to do.\n"
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("*")} == before


@pytest.mark.parametrize(
    ("changed", "messages"),
    [
        (
            ["--config.dim=24", "--config.seed=1"],
            ["--config.dim was 20 and is 24", "--config.seed was 0 and is 1"],
        ),
        (["--config.epochs=3"], ["--config.epochs was 2 and is 3", "--extend"]),
        (["--config.epochs=1", "--extend"], ["--config.epochs was 2 and is 1"]),
        (["--config.epochs=3", "--config.dim=24", "--extend"], ["--config.dim was"]),
    ],
)
def test_other_settings_are_refused_by_name(changed, messages, photos, whole):
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*")}
    refused = run_program("train", *arguments(photos, whole), *changed)
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    for message in messages:
        assert message in refused.stderr
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("*")} == before


@pytest.mark.slow
def test_extended_run_is_trained_and_measured_on(photos, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    extended = run_program(
        "train", *arguments(photos, run), "--config.epochs=3", "--extend"
    )
    assert extended.returncode == 0, extended.stderr
    log = (run / "log.csv").read_text().splitlines()
    assert log[:5] == (whole / "log.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in log[1:]] == ["0", "1", "2", "3", "4"]
    assert json.loads((run / "config.json").read_text())["epochs"] == 3
    assert outcome(run)["weights"] != outcome(whole)["weights"]
    assert outcome(run)["files"] == outcome(whole)["files"]
