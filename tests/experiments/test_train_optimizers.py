"""Optimizers, schedules, precision and speed from the command line."""

import csv
import json

import keras
import numpy as np
import pytest

import keras_dml
from tests.experiments.programs import SMALL
from tests.experiments.programs import run_program
from tests.experiments.programs import write_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.mark.parametrize(
    "settings",
    [
        (
            "--config.optimizer=adamw",
            "--config.learning_rate=1e-3",
            "--config.schedule=cosine",
            "--config.warmup_epochs=1",
            "--config.layer_decay=0.75",
            "--config.frozen_epochs=1",
            "--config.precision=mixed_float16",
        ),
        pytest.param(
            (
                "--config.optimizer=lion",
                "--config.learning_rate=1e-4",
                "--config.schedule=constant",
                "--config.frozen_epochs=1",
                "--config.precision=mixed_bfloat16",
                "--logical_cpus=2",
            ),
            marks=[pytest.mark.slow, pytest.mark.long],
        ),
        pytest.param(
            ("--config.deterministic=False", "--config.jit_compile=True"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (
                "--config.weights={weights}",
                "--config.batch_norm=frozen",
                "--config.class_weights=means",
                "--config.sampled_classes=0.7",
                "--logical_cpus=2",
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["adamw", "lion", "xla", "frozen batch norm"],
)
def test_settings_of_the_optimization_train_measure_and_export(
    photos, tmp_path, settings
):
    folder = tmp_path / "run"
    weights = tmp_path / "trunk.weights.h5"
    keras_dml.models.trunk("conv4", (28, 28, 3)).save_weights(weights)
    finished = run_program(
        "train",
        *SMALL,
        f"--data_dir={photos}",
        f"--output_dir={folder}",
        *(setting.format(weights=weights) for setting in settings),
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    with open(folder / "log.csv", newline="") as stream:
        _, *rows = csv.DictReader(stream)
    losses = [float(row["loss"]) for row in rows]
    assert np.isfinite(losses).all()
    assert (folder / "serving" / "1" / "saved_model.pb").is_file()
    embedder = keras.models.load_model(folder / "embedding.keras")
    assert isinstance(embedder.layers[-1], keras_dml.layers.L2Normalization)
    assert embedder.output.dtype == "float32"
    config = json.loads((folder / "config.json").read_text())
    assert config["optimizer"] in " ".join([*settings, "sgd"])
