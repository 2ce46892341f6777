"""Class weights split over devices, as docs/many_classes.md has it."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

from keras_dml._ops import IS_KERAS_2

pytestmark = pytest.mark.skipif(
    IS_KERAS_2
    or keras.backend.backend() != "tensorflow"
    or importlib.util.find_spec("jax") is None,
    reason="runs JAX in a process of its own, once, from the home backend",
)

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = pathlib.Path(__file__).with_name("train_on_four_shards.py")


@pytest.fixture(
    scope="module",
    params=[
        # Each starts JAX on four devices.
        pytest.param(((4,), ("classes",), "classes"), id="4", marks=pytest.mark.slow),
        pytest.param(
            ((1, 4), ("batch", "classes"), "batch"), id="1x4", marks=pytest.mark.slow
        ),
        pytest.param(((2, 2), ("batch", "classes"), "batch"), id="2x2"),
    ],
)
def found(request):
    finished = subprocess.run(
        [sys.executable, PROGRAM, json.dumps(request.param)],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    shards = request.param[0][request.param[1].index("classes")]
    return json.loads(finished.stdout), shards


@pytest.mark.slow
def test_training_is_that_of_one_device(found):
    figures, _ = found
    assert figures["moved"] > 0.1
    assert figures["losses apart"] < 1e-5
    assert figures["weights apart"] < 1e-5


@pytest.mark.slow
def test_each_device_holds_its_share_of_class_weights_and_velocity(found):
    figures, shards = found
    for name in ("rows", "velocity rows"):
        assert figures[name] == [20 // shards] * 4


@pytest.mark.slow
def test_saved_model_goes_on_sharded_where_it_stopped(found):
    figures, shards = found
    for name in ("loaded rows", "loaded velocity rows"):
        assert figures[name] == [20 // shards] * 4
    assert figures["losses apart after loading"] < 1e-5
