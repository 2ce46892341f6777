import json
import pathlib

import ml_collections
import pytest

from experiments._lib.check_config import check_workers_agree
from keras_dml import training
from keras_dml._ops import IS_KERAS_2
from tests import fork_server
from tests.experiments.programs import SMALL
from tests.experiments.programs import write_photos
from tests.soak.soak import outcome

pytestmark = pytest.mark.skipif(IS_KERAS_2, reason="several workers need Keras 3")

PROGRAM = pathlib.Path(__file__).with_name("train_on_workers.py")


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


def train(folder, photos, run, number="none", worker=0, batch=0):
    """Gives the exit codes, the seconds from the signal on, and all standard errors."""
    folder.mkdir(exist_ok=True)
    arguments = (
        *SMALL,
        "--config.nmi_starts=0",
        "--checkpoint_minutes=0",
        f"--data_dir={photos}",
        f"--output_dir={run}",
    )
    finished = fork_server.run_file(PROGRAM, folder, number, worker, batch, *arguments)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    errors = [(folder / f"stderr-{worker}").read_text() for worker in range(2)]
    return found["codes"], found["seconds"], errors


@pytest.mark.slow
def test_run_on_workers_ends_on_all_and_goes_on_bit_for_bit(photos, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    codes, _, errors = train(tmp_path / "0", photos, whole)
    assert codes == [0, 0], errors

    # After two of the three batches of the first epoch.
    codes, seconds, errors = train(tmp_path / "1", photos, run, "SIGTERM", 1, 2)
    assert codes == [143, 143], errors
    assert seconds < 60
    assert "the run is saved in" in errors[0]

    # After another, in the middle of the second epoch.
    codes, seconds, errors = train(tmp_path / "2", photos, run, "SIGKILL", 1, 5)
    assert codes == [2, -9], errors
    assert seconds < 60
    assert "Resume: training goes on in epoch 1 of 2, after 2 batches." in errors[0]
    *_, line = errors[0].strip().splitlines()
    assert line.startswith("error: worker 1 is gone: it ended, was killed")
    assert "Start the same command on every worker again" in line

    codes, _, errors = train(tmp_path / "3", photos, run)
    assert codes == [0, 0], errors
    assert "Resume: training goes on in epoch 2 of 2, after 1 batches." in errors[0]
    assert outcome(run) == outcome(whole)


def test_worker_with_other_settings_is_refused(monkeypatch):
    config = ml_collections.ConfigDict({"dim": 8, "ks": (1, 2)})
    check_workers_agree(config)
    monkeypatch.setattr(training, "from_chief", lambda given: {**given, "dim": 9})
    with pytest.raises(ValueError, match=r"--config\.dim is 8 here and 9 on the first"):
        check_workers_agree(config)
