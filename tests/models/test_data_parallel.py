"""Models and losses with `keras.distribution.DataParallel`, which JAX has."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

from keras_dml._ops import IS_KERAS_2

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        IS_KERAS_2
        or keras.backend.backend() != "tensorflow"
        or importlib.util.find_spec("jax") is None,
        reason="runs JAX in a process of its own, once, from the home backend",
    ),
]

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = pathlib.Path(__file__).with_name("train_on_four_devices.py")


@pytest.fixture(scope="module")
def found():
    finished = subprocess.run(
        [sys.executable, PROGRAM],
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
    return json.loads(finished.stdout)


@pytest.mark.parametrize(
    "name", ["pair_loss", "memory", "drawn_classes", "drawn_margin", "proxy_anchor"]
)
def test_four_devices_train_as_one_does(name, found):
    figures = found[name]
    assert figures["devices"] == 4
    assert figures["started apart"] == 0
    assert figures["moved"] > 1e-3
    assert figures["apart"] < 1e-4
    assert figures["losses apart"] < 1e-4
