import json
import shutil

import ml_collections
import pytest

from experiments._lib.measure import measure_untrained
from experiments._lib.run_folder import open_run_folder
from keras_dml._files import locked
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
            for case in (("frozen epochs", 1), ("checkpoint writing", 7))
        ),
        *(
            pytest.param(*case, marks=[pytest.mark.slow, pytest.mark.long])
            for case in (("evaluation", 2), ("export", 1))
        ),
    ],
)
def test_killed_run_ends_as_if_never_killed(phase, entry, photos, whole, tmp_path):
    run = tmp_path / "run"
    killed = fork_server.run_module(
        "tests.experiments.killed", "SIGKILL", phase, entry, *arguments(photos, run)
    )
    assert killed.returncode == -9, killed.stderr
    finished = run_program("train", *arguments(photos, run))
    assert finished.returncode == 0, finished.stderr
    assert outcome(run) == outcome(whole)


def test_sigterm_outside_of_training_says_how_to_go_on(photos, tmp_path):
    run = tmp_path / "run"
    ended = fork_server.run_module(
        "tests.experiments.killed",
        "SIGTERM",
        "measuring before training",
        1,
        *arguments(photos, run),
    )
    assert ended.returncode == 143
    assert f"The same command with --output_dir={run} goes on" in ended.stderr
    assert not list(run.glob(".*"))


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


@pytest.mark.parametrize("damage", ["removed", "emptied"])
def test_finished_run_without_checkpoints_is_not_extended(
    damage, photos, whole, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    if damage == "removed":
        shutil.rmtree(run / "checkpoints")
    for file in run.glob("checkpoints/step-*/arrays.bin"):
        file.write_bytes(b"")
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    refused = run_program(
        "train", *arguments(photos, run), "--config.epochs=3", "--extend"
    )
    assert refused.returncode == 2
    assert "holds a finished run and no undamaged checkpoint" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*")} == before


def test_extension_on_other_images_is_refused_and_keeps_the_results(
    photos, whole, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "train" / "train class 0" / "5.jpg").unlink()
    before = outcome(run)
    refused = run_program(
        "train", *arguments(tmp_path / "photos", run), "--config.epochs=3", "--extend"
    )
    assert refused.returncode == 2
    assert "are of a run on other batches" in refused.stderr
    assert outcome(run) == before
    assert json.loads((run / "config.json").read_text())["epochs"] == 2


def test_folder_that_another_program_writes_is_refused(photos, whole):
    with locked(whole):
        refused = run_program("train", *arguments(photos, whole))
    assert refused.returncode == 2
    assert "is being written by another program. Wait" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_new_folder_is_opened_once_at_a_time(tmp_path):
    config = ml_collections.ConfigDict({"resize": 32})
    for _ in range(2):
        with (
            open_run_folder(tmp_path / "run", config),
            pytest.raises(BlockingIOError, match="written by another program"),
            open_run_folder(tmp_path / "run", config),
        ):
            pass


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"test": {"float": null}}'])
def test_damaged_figures_of_the_untrained_model_are_named(content, tmp_path, noise):
    file = tmp_path / "untrained.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=rf"'{file}' is damaged: .* Delete it"):
        measure_untrained(None, None, file, test=noise, val=None)


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
