"""`experiments.export`: versions of a model, and which one is served."""

import json
import os
import pathlib
import re

import keras
import pytest
import tensorflow as tf
from google.protobuf import text_format

from keras_dml.models import embedding_model
from tests.experiments.programs import run_program


def make_run(folder, versions=()):
    """A folder with what the program reads of a run."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"resize": 16}))
    for version in versions:
        (folder / "serving" / version).mkdir(parents=True)
        (folder / "serving" / version / "saved_model.pb").touch()
        os.utime(folder / "serving" / version / "saved_model.pb", (0, 10**9))
    return folder


def add_model(run):
    images = keras.Input((14, 14, 3))
    x = keras.layers.Conv2D(4, 3, strides=2)(images)
    embedding_model(keras.Model(images, x), 8).save(run / "embedding.keras")


def served(run):
    """The configuration as TF Serving reads it."""
    configs = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    text = (run / "serving" / "models.config").read_text(encoding="utf-8")
    message = text_format.Parse(text, configs.ModelServerConfig())
    (config,) = message.model_config_list.config
    assert config.model_platform == "tensorflow"
    return config


def test_version_is_pinned_and_released(tmp_path):
    run = make_run(tmp_path / "birds", ("1", "2", "10"))
    finished = run_program("export", f"--run={run}", "--serve=2")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == f"{run / 'serving' / 'models.config'}\n"
    config = served(run)
    assert (config.name, config.base_path) == ("birds", "/models/birds")
    assert list(config.model_version_policy.specific.versions) == [2]

    assert run_program("export", f"--run={run}", "--serve=latest").returncode == 0
    policy = served(run).model_version_policy
    assert policy.WhichOneof("policy_choice") == "latest"
    assert policy.latest.num_versions == 1


def test_base_path_is_kept_by_later_commands(tmp_path):
    run = make_run(tmp_path / 'a "run"', ("1", "2"))
    path = '--base_path=/srv/the "models"\\é'
    assert run_program("export", f"--run={run}", "--serve=2", path).returncode == 0
    assert run_program("export", f"--run={run}", "--serve=1").returncode == 0
    config = served(run)
    assert (config.name, config.base_path) == ('a "run"', '/srv/the "models"\\é')
    assert list(config.model_version_policy.specific.versions) == [1]


def test_versions_are_listed_in_order_with_the_one_that_is_served(tmp_path):
    run = make_run(tmp_path / "birds", ("10", "2", "1"))
    # What TF Serving does not take for a version, or what is not whole.
    (run / "serving" / "11").mkdir()
    (run / "serving" / ".12.unfinished.x").mkdir()
    written = run_program("export", f"--run={run}", "--versions")
    header, *lines = (line.split() for line in written.stdout.splitlines())
    assert header == ["version", "written", "served"]
    assert [line[0] for line in lines] == ["1", "2", "10"]
    assert lines[0][1] in ("2001-09-08", "2001-09-09")
    assert [line[3:] for line in lines] == [[], [], ["yes"]]

    run_program("export", f"--run={run}", "--serve=2")
    written = run_program("export", f"--run={run}", "--versions").stdout
    assert [line.split()[3:] for line in written.splitlines()[1:]] == [[], ["yes"], []]


def test_rolling_back_changes_no_version(tmp_path):
    run = make_run(tmp_path / "birds", ("1", "2"))

    def stamps():
        files = pathlib.Path(run, "serving").glob("*/*")
        return {file: file.stat().st_mtime_ns for file in files}

    before = stamps()
    assert run_program("export", f"--run={run}", "--serve=1").returncode == 0
    assert stamps() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--serve=3"], "--serve='3' is no version in .*; it holds 1, 2. Give one"),
        (["--serve=01"], "--serve='01' is no version"),
        (["--serve="], "--serve='' is no version"),
        (["--serve=1", "--versions"], "--versions and --serve, which are two com"),
        (["--serve=1", "--format=onnx"], "--serve and --format, which are two com"),
        (["--base_path=/srv"], "--base_path is written by --serve; give both"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(tmp_path, arguments, message):
    run = make_run(tmp_path / "birds", ("1", "2"))
    finished = run_program("export", f"--run={run}", *arguments)
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1
    assert re.search(message, finished.stderr), finished.stderr
    assert not (run / "serving" / "models.config").exists()


def test_new_version_says_that_another_is_pinned(tmp_path):
    run = make_run(tmp_path / "birds", ("1",))
    add_model(run)
    run_program("export", f"--run={run}", "--serve=1")
    finished = run_program("export", f"--run={run}")
    assert finished.returncode == 0, finished.stderr
    path, hint = finished.stdout.splitlines()
    assert path == str(run / "serving" / "2")
    assert hint.endswith("models.config serves version 1; --serve=2 changes that.")
    assert list(served(run).model_version_policy.specific.versions) == [1]
    signatures = tf.saved_model.load(path).signatures
    assert set(signatures) == {"serving_default", "images"}
    assert (run / "serving" / "batching_parameters.txt").is_file()


@pytest.mark.parametrize(
    ("format_name", "name"),
    [
        ("litert", "embedding.tflite"),
        ("litert_int8", "embedding_int8.tflite"),
        ("onnx", "embedding.onnx"),
    ],
)
def test_other_formats_are_one_file(tmp_path, format_name, name):
    if format_name == "onnx":
        pytest.importorskip("tf2onnx")
    run = make_run(tmp_path / "birds", ("1",))
    add_model(run)
    finished = run_program("export", f"--run={run}", f"--format={format_name}")
    assert finished.returncode == 0, finished.stderr
    file = run / "serving" / name
    assert finished.stdout == f"{file}\n"
    # What begins a file of each format: FlatBuffers' identifier; the IR version.
    start = file.read_bytes()[:8]
    assert start[:1] == b"\x08" if format_name == "onnx" else start[4:] == b"TFL3"
    assert sorted(os.listdir(run / "serving")) == ["1", file.name]
