"""A run on JAX, over four devices of one CPU, and what TensorFlow makes of it."""

import csv
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_dml
from tests.experiments.programs import ROOT
from tests.experiments.programs import SMALL
from tests.experiments.programs import run_program
from tests.experiments.programs import start_program
from tests.experiments.programs import write_photos

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="JAX is not installed"
)

FEW_GLYPHS = pathlib.Path(__file__).with_name("train_on_few_glyphs.py")

# One epoch, an index of the unit vectors as they are, and no k-means.
SMALLER = (*SMALL, "--config.epochs=1", "--config.index=exact", "--config.nmi_starts=0")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """30 images to test on, which four devices do not divide."""
    return write_photos(tmp_path_factory.mktemp("photos"), images=5)


def train_on_jax(photos, folder, *arguments):
    data = (f"--data_dir={photos}", f"--output_dir={folder}")
    finished = start_program("train", *SMALLER, *data, *arguments, KERAS_BACKEND="jax")
    assert finished.returncode == 0, finished.stderr
    return finished


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, train_on_jax(photos, folder, "--logical_cpus=4")


def embeddings_of(folder):
    """What the program indexed on JAX."""
    return np.load(folder / "index" / "embeddings.npy")


def rows_of_log(folder):
    with open(folder / "log.csv", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_run_is_whole_but_for_the_saved_model_whose_command_is_printed(run):
    folder, finished = run
    assert "4 replica(s)" in finished.stdout
    assert finished.stderr == ""
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints",
        "config.json",
        "embedding.keras",
        "index",
        "log.csv",
        "metrics.json",
        "report",
        "tensorboard",
        "trunk.weights.h5",
        "untrained.json",
    }
    assert list(folder.glob("tensorboard/train/events.*"))
    (line,) = (line for line in finished.stdout.splitlines() if "SavedModel" in line)
    assert "KERAS_BACKEND=tensorflow python -m experiments.export" in line
    assert f"--run={folder}" in line


@pytest.mark.slow
def test_model_gives_on_tensorflow_the_embeddings_and_figures_of_jax(run, photos):
    folder, _ = run
    embedder = keras.models.load_model(folder / "embedding.keras")
    _, test = keras_dml.data.image_folder(photos)
    embeddings = keras_dml.evaluation.embed(embedder, test, resize=32, verbose=0)
    assert len(embeddings) == 30
    np.testing.assert_allclose(embeddings_of(folder), embeddings, atol=1e-5)
    figures = json.loads((folder / "metrics.json").read_text())["float"]
    assert (
        figures
        == keras_dml.evaluation.retrieval_metrics(
            embeddings, test.labels, ks=(1, 2), nmi_starts=0
        )["float"]
    )


@pytest.mark.slow
def test_export_under_tensorflow_serves_the_embeddings_of_jax(run, photos, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    finished = run_program("export", f"--run={folder}")
    assert finished.returncode == 0, finished.stderr
    served = tf.saved_model.load(folder / "serving" / "1").signatures["images"]
    _, test = keras_dml.data.image_folder(photos)
    pixels = np.concatenate(list(test.images(28, 32))).astype("float32")
    np.testing.assert_allclose(
        served(images=tf.constant(pixels))["embedding"],
        embeddings_of(folder),
        atol=1e-5,
    )


@pytest.mark.slow
@pytest.mark.long
def test_four_devices_train_as_one_does(run, photos, tmp_path):
    folder, _ = run
    alone = tmp_path / "alone"
    assert "1 replica(s)" in train_on_jax(photos, alone).stdout
    with open(folder / "log.csv", newline="") as four, open(alone / "log.csv") as one:
        rows, expected_rows = list(csv.DictReader(four)), list(csv.DictReader(one))
        for row, expected in zip(rows[1:], expected_rows[1:], strict=True):
            assert float(row["loss"]) == pytest.approx(float(expected["loss"]), 1e-4)
    for weights, expected in zip(
        keras.models.load_model(folder / "embedding.keras").get_weights(),
        keras.models.load_model(alone / "embedding.keras").get_weights(),
        strict=True,
    ):
        np.testing.assert_allclose(weights, expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.long
def test_same_seed_gives_the_same_weights_bit_for_bit(run, photos, tmp_path):
    again = tmp_path / "again"
    train_on_jax(photos, again, "--logical_cpus=4")
    np.testing.assert_array_equal(embeddings_of(again), embeddings_of(run[0]))


@pytest.mark.slow
@pytest.mark.long
def test_validation_classes_frozen_epochs_and_drawn_classes(photos, tmp_path):
    folder = tmp_path / "run"
    train_on_jax(
        photos,
        folder,
        "--logical_cpus=2",
        "--config.sampled_classes=0.5",
        "--config.validation_classes=0.34",
        "--config.frozen_epochs=1",
        "--config.epochs=2",
        "--config.evaluate_every=2",
    )
    measured = [float(row["val_recall@1"]) for row in rows_of_log(folder)]
    assert np.isfinite(measured).tolist() == [True, True, True, False]
    train, _ = keras_dml.data.image_folder(photos)
    _, held_out = train.split_by_class(0.34, seed=0)
    embedder = keras.models.load_model(folder / "embedding.keras")
    embeddings = keras_dml.evaluation.embed(embedder, held_out, resize=32, verbose=0)
    recall = keras_dml.evaluation.recall_at_k(embeddings, held_out.labels, ks=(1,))
    assert recall["recall@1"] == pytest.approx(np.nanmax(measured))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_evaluate_repeats_the_figures_on_every_backend(backend, run, photos, tmp_path):
    folder, _ = run
    pytest.importorskip(backend)
    output = tmp_path / "metrics.json"
    finished = start_program(
        "evaluate",
        *SMALLER,
        f"--model={folder / 'embedding.keras'}",
        f"--data_dir={photos}",
        f"--output={output}",
        KERAS_BACKEND=backend,
    )
    assert finished.returncode == 0, finished.stderr
    again, first = (
        json.loads(file.read_text()) for file in (output, folder / "metrics.json")
    )
    assert again["float"] == first["float"]


@pytest.mark.slow
@pytest.mark.long
def test_the_same_weights_learn_alike_on_tensorflow_and_jax(tmp_path):
    found = {}
    for backend in ("tensorflow", "jax"):
        finished = subprocess.run(
            [sys.executable, FEW_GLYPHS, tmp_path / "start.weights.h5"],
            env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        found[backend] = json.loads(finished.stdout.splitlines()[-1])
    jax, tensorflow = found["jax"], found["tensorflow"]
    # Training makes small differences large.
    assert jax["losses"][:3] == pytest.approx(tensorflow["losses"][:3], rel=1e-3)
    assert jax["epochs"] == pytest.approx(tensorflow["epochs"], rel=0.1)
    for figures in found.values():
        before, after = figures["recall"]
        assert after > before + 0.1


@pytest.mark.slow
@pytest.mark.long
def test_pytorch_trains_and_searches(photos, tmp_path):
    pytest.importorskip("torch")
    folder = tmp_path / "run"
    arguments = (f"--data_dir={photos}", f"--output_dir={folder}")
    finished = start_program("train", *SMALLER, *arguments, KERAS_BACKEND="torch")
    assert finished.returncode == 0, finished.stderr
    assert f"experiments.export --run={folder}" in finished.stdout
    image = photos / "test" / "test class 3" / "2.jpg"
    finished = start_program(
        "search", f"--run={folder}", f"--image={image}", KERAS_BACKEND="torch"
    )
    assert finished.returncode == 0, finished.stderr
    assert f"  1.000  test class 3  {image}" in finished.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", ["jax", pytest.param("torch", marks=pytest.mark.long)]
)
def test_export_on_another_backend_says_what_to_do(backend, run):
    pytest.importorskip(backend)
    finished = start_program("export", f"--run={run[0]}", KERAS_BACKEND=backend)
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert f"KERAS_BACKEND={backend}" in line
    assert "KERAS_BACKEND=tensorflow" in line
    assert not (run[0] / "serving").exists()
