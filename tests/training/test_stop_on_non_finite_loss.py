import math
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_dml._ops import IS_KERAS_2
from keras_dml.data import class_balanced_batches
from keras_dml.training import Resume
from keras_dml.training import StopOnNonFiniteLoss
from keras_dml.training._checkpoints import newest_checkpoint
from keras_dml.training._checkpoints import read_newest_checkpoint
from tests import fork_server

STEPS = 6
PROGRAM = pathlib.Path(__file__).with_name("diverge_on_two_replicas.py")
LABELS = np.arange(48) % 8
X = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)

needs_keras_3 = pytest.mark.skipif(IS_KERAS_2, reason="Resume needs Keras 3")


def small_model(optimizer=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(8)(inputs))
    model.compile(
        optimizer or keras.optimizers.SGD(0.125),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=keras.backend.backend() == "tensorflow",  # the fastest for so few
    )
    return model


class PoisonAt(keras.callbacks.Callback):
    """Makes a weight infinite or NaN before a batch, counted over all epochs."""

    def __init__(self, step, value=math.nan):
        super().__init__()
        self.step, self.value, self.epoch = step, value, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.step == self.epoch * STEPS + batch:
            bias = self.model.layers[-1].bias
            bias.assign(np.full(8, self.value, np.float32))


class Notes(keras.callbacks.Callback):
    """Notes what a callback that saves would have seen."""

    def __init__(self):
        super().__init__()
        self.batches, self.ends = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(epoch)

    def on_train_end(self, logs=None):
        self.ends.append("end")


def fit(model, *callbacks, batches=None, epochs=3):
    if batches is None:
        batches = class_balanced_batches((X, LABELS), 4, 2)
    return model.fit(
        batches, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks)
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("step", [0, 8, STEPS - 1])
def test_first_batch_whose_loss_is_not_finite_ends_fit(step, value):
    notes = Notes()
    with pytest.raises(FloatingPointError) as error:
        fit(small_model(), StopOnNonFiniteLoss(), PoisonAt(step, value), notes)
    epoch, batch = divmod(step, STEPS)
    assert f"at step {batch + 1} of epoch {epoch + 1}, step {step + 1} in all, wi" in (
        str(error.value)
    )
    assert "with a learning rate of 0.125. Train anew" in str(error.value)
    assert ("look for NaN in the images" in str(error.value)) == (step == 0)
    assert notes.batches == [*range(STEPS)] * epoch + [*range(batch)]
    assert notes.ends == [*range(epoch)]


def test_finite_loss_ends_nothing_and_changes_nothing():
    first, second = small_model(), small_model()
    history = fit(first, StopOnNonFiniteLoss()).history["loss"]
    assert history == fit(second).history["loss"]


def test_same_callback_serves_a_second_fit():
    stop = StopOnNonFiniteLoss()
    with pytest.raises(FloatingPointError):
        fit(small_model(), stop, PoisonAt(3))
    fit(small_model(), stop)


def test_weight_that_the_last_step_made_infinite_ends_the_epoch():
    class PoisonLast(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == STEPS - 1:
                self.model.layers[-1].bias.assign(np.full(8, np.inf, np.float32))

    notes = Notes()
    with pytest.raises(FloatingPointError, match=r"^a weight .* step 6 of epoch 1, s"):
        fit(small_model(), StopOnNonFiniteLoss(), PoisonLast(), notes)
    assert notes.ends == []


def test_rate_is_that_of_the_schedule():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([7], [0.5, 0.25])
    with pytest.raises(FloatingPointError, match=r"with a learning rate of 0\.25\."):
        fit(
            small_model(keras.optimizers.SGD(schedule)),
            StopOnNonFiniteLoss(),
            PoisonAt(10),
        )


def test_batches_without_a_known_number_have_no_number_in_all():
    def endless():
        for start in range(0, 48, 8):
            yield X[start : start + 8], LABELS[start : start + 8]

    with pytest.raises(FloatingPointError, match=r"step 3 of epoch 1, with a learn"):
        fit(small_model(), StopOnNonFiniteLoss(), PoisonAt(2), batches=endless())


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="what scales is TensorFlow's"
)
@pytest.mark.skipif(IS_KERAS_2, reason="reads the scale as Keras 3 has it")
def test_gradients_that_loss_scaling_skips_end_nothing():
    # The loss is some hundreds. So is its gradient, which is infinite times 2¹²⁷.
    model = small_model(
        keras.mixed_precision.LossScaleOptimizer(
            keras.optimizers.SGD(0.125), initial_scale=2.0**127
        )
    )
    batches = class_balanced_batches((1000 * X, LABELS), 4, 2)
    history = fit(model, StopOnNonFiniteLoss(), batches=batches).history["loss"]
    assert np.isfinite(history).all()
    assert float(model.optimizer.dynamic_scale.numpy()) < 2.0**127


@needs_keras_3
@pytest.mark.parametrize("resume_first", [False, True])
def test_no_checkpoint_holds_weights_of_after(tmp_path, resume_first, capsys):
    batches = class_balanced_batches((X, LABELS), 4, 2)
    stop, poison = StopOnNonFiniteLoss(tmp_path), PoisonAt(8)
    resume = Resume(tmp_path, batches, minutes=0)
    order = [poison, resume, stop] if resume_first else [stop, poison, resume]
    with pytest.raises(FloatingPointError) as error:
        fit(small_model(), *order, batches=batches)
    newest = tmp_path / f"step-{8:012d}"
    assert f"The newest good checkpoint is {newest}. Train anew" in str(error.value)
    assert newest_checkpoint(tmp_path) == newest
    _, arrays = read_newest_checkpoint(tmp_path, pytest.fail)
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert ("no checkpoint is saved" in capsys.readouterr().err) == resume_first


@needs_keras_3
@pytest.mark.parametrize("value", [math.nan, None])
def test_resume_alone_saves_nothing_after_it_either(tmp_path, value, capsys):
    class Poison(keras.callbacks.Callback):
        """Spoils the loss, or with None leaves a weight infinite after a good loss."""

        def on_train_batch_end(self, batch, logs=None):
            if batch == 2 and value is None:
                self.model.layers[-1].bias.assign(np.full(8, np.inf, np.float32))
            if batch == 2 and value is not None:
                logs["loss"] = value

    batches = class_balanced_batches((X, LABELS), 4, 2)
    fit(small_model(), Poison(), Resume(tmp_path, batches, minutes=0), batches=batches)
    assert newest_checkpoint(tmp_path) == tmp_path / f"step-{2:012d}"
    assert capsys.readouterr().err.count("no checkpoint is saved") == 1


def test_damaged_newest_checkpoint_is_not_named_as_good(tmp_path):
    with pytest.raises(FloatingPointError, match=r"There is no good checkpoint"):
        fit(small_model(), StopOnNonFiniteLoss(tmp_path), PoisonAt(0))
    if IS_KERAS_2:
        return
    batches = class_balanced_batches((X, LABELS), 4, 2)
    with pytest.raises(FloatingPointError):
        fit(
            small_model(),
            *(StopOnNonFiniteLoss(tmp_path), PoisonAt(3)),
            Resume(tmp_path, batches, minutes=0),
            batches=batches,
        )
    (tmp_path / f"step-{3:012d}" / "arrays.bin").write_bytes(b"")
    with pytest.raises(FloatingPointError, match=f"checkpoint is .*step-{2:012d}. T"):
        fit(small_model(), StopOnNonFiniteLoss(tmp_path), PoisonAt(0))


@pytest.mark.slow
def test_piece_of_one_replica_that_is_not_finite_ends_both():
    finished = fork_server.run_file(PROGRAM)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1].startswith(
        "the loss became nan at step 2 of epoch 1, step 2 in all, with a learning rate"
    )


@pytest.mark.slow
@needs_keras_3
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_end_within_the_epoch_and_name_the_step(backend):
    finished = subprocess.run(
        [sys.executable, PROGRAM.with_name("diverge_on_a_backend.py")],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": str(fork_server.ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines() == [
        f"{backend} the loss became nan at step 5 of epoch 1, step 5 in all, with a "
        "learning rate of 0.125."
    ]
