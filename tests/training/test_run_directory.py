import csv
import os
import pathlib

import keras
import numpy as np
import pytest

from keras_dml.training import EpochLog
from keras_dml.training import new_run_directory


def test_new_folder_is_made_with_its_parents(tmp_path):
    run = new_run_directory(str(tmp_path / "runs" / "one"))
    assert isinstance(run, pathlib.Path)
    assert run == tmp_path / "runs" / "one"
    assert run.is_dir()


def test_empty_folder_is_used(tmp_path):
    assert new_run_directory(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["metrics.json", ".hidden"])
def test_folder_with_anything_in_it_is_refused(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(
        FileExistsError, match=r"not empty\. Name another, or delete it"
    ):
        new_run_directory(tmp_path)
    assert os.listdir(tmp_path) == [name]


def test_file_in_the_way_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(FileExistsError, match=r"run. exists already"):
        new_run_directory(tmp_path / "run")


def test_log_has_the_columns_it_is_given(tmp_path):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse", metrics=["mae"])
    log = EpochLog(tmp_path / "log.csv", ["mae", "recall", "loss"])
    x, y = np.ones((4, 2)), np.ones((4, 1))
    history = model.fit(x, y, epochs=2, verbose=0, callbacks=[log]).history
    with open(tmp_path / "log.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["epoch", "mae", "recall", "loss"]
    assert [row[0] for row in rows] == ["1", "2"]
    assert [row[2] for row in rows] == ["NA", "NA"]
    for column, name in ((1, "mae"), (3, "loss")):
        np.testing.assert_allclose([float(row[column]) for row in rows], history[name])


def test_untrained_model_is_epoch_0(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    log = EpochLog(tmp_path / "log.csv", ["loss", "recall"], {"recall": 0.25})
    model.fit(np.ones((4, 2)), np.ones(4), epochs=2, verbose=0, callbacks=[log])
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert rows[0] == ["0", "NA", "0.25"]
    assert [row[0] for row in rows] == ["0", "1", "2"]
