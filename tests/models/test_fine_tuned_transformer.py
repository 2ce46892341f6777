import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

pytest.importorskip("keras_hub", reason="keras-hub is not installed")

from keras_dml._ops import ops
from keras_dml.training import FreezeTrunk
from tests.models.fine_tuned_transformer import CLASSES
from tests.models.fine_tuned_transformer import batches
from tests.models.fine_tuned_transformer import build
from tests.models.fine_tuned_transformer import photos

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


class Epochs(keras.callbacks.Callback):
    """Keeps the weights of some layers after each epoch, and the losses."""

    def __init__(self, variables):
        super().__init__()
        self.variables = variables
        self.weights, self.losses = [self.now()], []

    def now(self):
        return [ops.convert_to_numpy(variable).copy() for variable in self.variables]

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.now())
        self.losses.append(logs["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_loss_falls_and_the_trunk_is_frozen_in_the_first_epoch(policy, tmp_path):
    backbone, model = build(policy)
    kept = Epochs(model.trainable_variables)
    callbacks = [kept, FreezeTrunk(backbone, epochs=1)]
    model.fit(batches(photos(tmp_path)), epochs=6, verbose=0, callbacks=callbacks)
    assert kept.losses[-1] < 0.5 * kept.losses[0]
    trunk = {id(variable) for variable in backbone.trainable_variables}
    in_trunk = [id(variable) in trunk for variable in kept.variables]
    assert (sum(in_trunk), len(in_trunk)) == (len(trunk), len(trunk) + 2)
    start, first, second, *_ = kept.weights
    for place, is_trunk in enumerate(in_trunk):
        path = kept.variables[place].path
        assert np.array_equal(start[place], first[place]) == is_trunk, path
        assert not np.array_equal(first[place], second[place]), path


def multiplier_by_hand(path):
    """Half for each block from the top: 1/2, 1/4, and 1/8 for the patches."""
    for part, multiplier in (
        ("patching_and_embedding", 1 / 8),
        ("transformer_block_1", 1 / 4),
        ("transformer_block_2", 1 / 2),
    ):
        if part in path:
            return multiplier
    return 1.0


def test_first_step_of_adamw_moves_each_layer_by_its_multiplier():
    # The first step of Adam has the size of the learning rate whatever the gradient,
    # and decoupled decay adds rate × decay × weight to it.
    _, model = build("float32", decay=0.5, weight_decay=0.1)
    before = [ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (8, 32, 32, 3)).astype("float32")
    model.run_eagerly = True  # the sooner for one step
    model.train_on_batch(images, np.arange(8) % CLASSES)
    seen = set()
    for variable, old in zip(model.trainable_variables, before, strict=True):
        if "key/bias" in variable.path:  # of which the softmax has no gradient
            continue
        multiplier = multiplier_by_hand(variable.path)
        step = (old - ops.convert_to_numpy(variable)) / 0.01 - multiplier * 0.1 * old
        expected = pytest.approx(multiplier, rel=2e-3)
        assert np.median(np.abs(step[step != 0])) == expected, variable.path
        seen.add(multiplier)
    assert seen == {1 / 8, 1 / 4, 1 / 2, 1}


@pytest.mark.slow
@pytest.mark.long
# Of the three only float16 has more to go on with, its loss scale.
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_run_that_stopped_within_an_epoch_goes_on_bit_for_bit(policy, tmp_path):
    program = pathlib.Path(__file__).with_name("fine_tuned_transformer.py")
    finished = subprocess.run(
        [sys.executable, program, policy, tmp_path],
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found["step"] == 5
    assert found["moved"] > 0.9 * found["variables"]
    assert found["apart"] == 0
