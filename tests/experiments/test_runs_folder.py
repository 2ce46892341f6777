import json

import ml_collections
import pytest

from experiments._studies.runs_folder import open_runs_folder
from experiments._studies.runs_folder import read_run
from keras_dml.data import ImageDataset

TEST = ImageDataset([f"{row}.png" for row in range(6)], [0, 0, 0, 1, 1, 1], ("a", "b"))


def config(**settings):
    return ml_collections.ConfigDict(settings)


def write_run(folder, images=6, classes=2):
    file = folder / "runs" / "as_is,seed=0.json"
    file.write_text(json.dumps({"metrics": {"images": images, "classes": classes}}))
    return file


def test_folder_can_be_gone_on_with(tmp_path):
    folder = tmp_path / "new"
    for _ in range(2):
        open_runs_folder(folder, config(ks=(1, 2), dim=64))
        file = write_run(folder)
    assert read_run(file, TEST)["metrics"] == {"images": 6, "classes": 2}


def test_settings_without_a_read_run_do_not_stand_in_the_way(tmp_path):
    open_runs_folder(tmp_path, config(trunk="conv5"))
    open_runs_folder(tmp_path, config(trunk="conv4"))
    write_run(tmp_path)
    with pytest.raises(ValueError, match="holds runs with trunk = 'conv4'"):
        open_runs_folder(tmp_path, config(trunk="conv5"))


def test_run_of_training_is_not_taken_for_an_ablation(tmp_path):
    (tmp_path / "config.json").write_text('{"dim": 64}')
    with pytest.raises(FileExistsError, match="not empty"):
        open_runs_folder(tmp_path, config(dim=64))
    assert (tmp_path / "config.json").read_text() == '{"dim": 64}'


def test_figures_of_another_test_set_are_refused(tmp_path):
    open_runs_folder(tmp_path, config(dim=64))
    file = write_run(tmp_path, images=1_000, classes=30)
    message = r"on 1,000 images of 30 classes, and this test set has 6 of 2\. Give"
    with pytest.raises(ValueError, match=message):
        read_run(file, TEST)


@pytest.mark.parametrize(
    "content", ["{}", "[]", "null", '{"metrics": {}}', '{"metrics": 6}']
)
def test_json_that_is_no_run_is_damaged(content, tmp_path):
    open_runs_folder(tmp_path, config(dim=64))
    run = write_run(tmp_path)
    run.write_text(content)
    with pytest.raises(ValueError, match=f"'{run}' is damaged .* Delete it"):
        read_run(run, TEST)


def test_damaged_files_are_named(tmp_path):
    open_runs_folder(tmp_path, config(dim=64))
    run = write_run(tmp_path)
    settings = tmp_path / "config.json"
    for file in (run, settings):
        file.write_text("{")
    with pytest.raises(ValueError, match=f"'{run}' is damaged .* Delete it"):
        read_run(run, TEST)
    with pytest.raises(ValueError, match=f"'{settings}' is damaged .* Name another"):
        open_runs_folder(tmp_path, config(dim=64))
