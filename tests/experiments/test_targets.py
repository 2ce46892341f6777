"""The recall that the configs promise, on two cores in minutes."""

import json

import numpy as np
import pytest

import keras_dml
from tests.experiments.programs import ROOT
from tests.experiments.programs import run_program

pytestmark = pytest.mark.slow


def train(config, folder, *arguments):
    finished = run_program(
        "train",
        f"--config=experiments/configs/{config}.py",
        f"--output_dir={folder}",
        *arguments,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads((folder / "metrics.json").read_text())


def test_glyphs_gain_more_than_25_points_over_raw_pixels(tmp_path):
    metrics = train("glyphs", tmp_path / "run")
    _, test = keras_dml.data.datasets.glyphs()
    images = np.concatenate(list(test.images(28, 32).as_numpy_iterator()))
    pixels = images.reshape(len(images), -1).astype(np.float32)
    raw = keras_dml.evaluation.recall_at_k(pixels, test.labels, ks=(1,))
    assert raw["recall@1"] < 0.5
    assert metrics["float"]["recall@1"] > raw["recall@1"] + 0.25


def test_omniglot_reaches_80_percent(tmp_path):
    data_dir = ROOT.parent / "shared" / "data" / "omniglot"
    if not data_dir.is_dir():
        pytest.skip("needs the zip files of Omniglot in ../shared/data/omniglot")
    metrics = train("omniglot", tmp_path / "run", f"--data_dir={data_dir}")
    assert metrics["images"] == 2120
    assert metrics["classes"] == 106
    assert metrics["float"]["recall@1"] >= 0.80
