import contextlib
import csv
import json
import os
import shutil
import signal

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_file_loader

from keras_dml._ops import IS_KERAS_2
from keras_dml.data import batch_position
from keras_dml.data import class_balanced_batches
from keras_dml.evaluation import RetrievalEvaluation
from keras_dml.layers import L2Normalization
from keras_dml.layers import NormalizedSoftmax
from keras_dml.training import FreezeTrunk
from keras_dml.training import Resume

pytestmark = pytest.mark.skipif(IS_KERAS_2, reason="Resume needs Keras 3")

STEPS = 6
"""Batches in an epoch of the data below."""

rng = np.random.default_rng(0)
CENTERS = rng.normal(size=(8, 5))
LABELS = np.arange(48) % 8
X = (CENTERS[LABELS] + rng.normal(size=(48, 5))).astype(np.float32)


class CrashError(Exception):
    """Stands for what ends a process."""


class CrashAt(keras.callbacks.Callback):
    """Crashes after a batch, counted over all epochs, or at the end of an epoch."""

    def __init__(self, step=None, epoch=None):
        super().__init__()
        self.step, self.at_epoch, self.epoch = step, epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.step == self.epoch * STEPS + batch:
            raise CrashError

    def on_epoch_end(self, epoch, logs=None):
        if self.at_epoch == epoch:
            raise CrashError


def fit(folder, *others, epochs=4, seed=0, minutes=0, fitted=True):
    """Trains a small model that has all kinds of state; returns it and its history."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    x = keras.layers.Dense(6, activation="relu")(inputs)
    trunk = keras.Model(inputs, keras.layers.BatchNormalization()(x))
    x = keras.layers.Dropout(0.2, seed=3)(trunk.output)
    embedder = keras.Model(inputs, L2Normalization()(keras.layers.Dense(4)(x)))
    model = keras.Model(inputs, NormalizedSoftmax(8)(embedder.output))
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    batches = class_balanced_batches((X, LABELS), 4, 2, seed=seed)
    callbacks = [
        FreezeTrunk(trunk),
        RetrievalEvaluation(embedder, (X, LABELS), ks=(1,), every=2),
        keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=9.0),
        keras.callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True),
        keras.callbacks.CSVLogger(folder / "log.csv"),
        keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False),
    ]
    resume = Resume(folder / "checkpoints", batches, callbacks, minutes=minutes)
    if not fitted:
        return None
    try:
        history = model.fit(
            batches,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=[*callbacks, *others, resume],
        )
    finally:
        callbacks[4].csv_file.close()
    return model, history


def numbers(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable).tobytes() for variable in variables]


def events(folder):
    found = []
    for file in sorted(folder.rglob("events.*")):
        for event in event_file_loader.EventFileLoader(str(file)).Load():
            found += [
                (value.tag, event.step, value.tensor.SerializeToString())
                for value in event.summary.value
            ]
    return sorted(found)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was never stopped: (its folder, its model, its history)."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, *fit(folder)


def check_same(folder, model, history, whole):
    expected_folder, expected_model, expected_history = whole
    assert numbers(model) == numbers(expected_model)
    np.testing.assert_equal(history.history, expected_history.history)
    assert history.epoch == expected_history.epoch
    log = (folder / "log.csv").read_text()
    assert log == (expected_folder / "log.csv").read_text()
    assert [row["epoch"] for row in csv.DictReader(log.splitlines())] == list("0123")
    assert events(folder) == events(expected_folder)


@pytest.mark.parametrize(
    "crashes",
    [
        [CrashAt(step=3)],
        pytest.param([CrashAt(step=0)], marks=pytest.mark.slow),
        pytest.param([CrashAt(step=STEPS - 1)], marks=pytest.mark.slow),
        pytest.param([CrashAt(epoch=0)], marks=pytest.mark.slow),
        pytest.param(
            [CrashAt(step=STEPS), CrashAt(epoch=1), CrashAt(step=3 * STEPS + 2)],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["frozen epoch", "first batch", "last batch", "end of epoch", "three times"],
)
def test_stopped_run_ends_as_if_never_stopped(tmp_path, whole, crashes):
    for crash in crashes:
        with pytest.raises(CrashError):
            fit(tmp_path, crash)
    check_same(tmp_path, *fit(tmp_path), whole)


@pytest.mark.slow
def test_without_a_checkpoint_it_starts_anew_and_nothing_is_logged_twice(
    tmp_path, whole
):
    with pytest.raises(CrashError):
        fit(tmp_path, CrashAt(step=2 * STEPS), minutes=60)
    assert not list(tmp_path.glob("checkpoints/step-*"))
    check_same(tmp_path, *fit(tmp_path, minutes=60), whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["batch", "end of epoch"])
def test_signal_saves_and_ends(tmp_path, whole, capsys, number, when):
    class Signal(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if when == "batch" and batch == 2:
                signal.raise_signal(number)

        def on_epoch_end(self, epoch, logs=None):
            if when != "batch":
                signal.raise_signal(number)

    before = signal.getsignal(number)
    ends = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with pytest.raises(ends) as end:
        fit(tmp_path, Signal(), minutes=60)
    if number == signal.SIGTERM:
        assert end.value.code == 143
    assert signal.getsignal(number) == before
    assert "start the same again to go on" in capsys.readouterr().err
    saved = [path.name for path in tmp_path.glob("checkpoints/step-*")]
    assert saved == [f"step-{3 if when == 'batch' else STEPS:012d}"]
    check_same(tmp_path, *fit(tmp_path, minutes=60), whole)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path, whole, capsys, damage
):
    with pytest.raises(CrashError):
        fit(tmp_path, CrashAt(step=STEPS + 2))
    newest = max(tmp_path.glob("checkpoints/step-*"))
    file = newest / "arrays.bin"
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.unlink()
    check_same(tmp_path, *fit(tmp_path), whole)
    assert f"{newest} is damaged" in capsys.readouterr().err


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    fit(tmp_path, epochs=1)
    for file in tmp_path.glob("checkpoints/step-*/index.json"):
        file.write_text("{")
    with pytest.raises(ValueError, match=r"all checkpoints in .* are damaged"):
        fit(tmp_path)


def test_checkpoints_are_plain_numbers_and_few(tmp_path):
    fit(tmp_path, epochs=1)
    checkpoints = sorted(tmp_path.glob("checkpoints/step-*"))
    assert [path.name for path in checkpoints] == [
        f"step-{STEPS - 1:012d}",
        f"step-{STEPS:012d}",
    ]
    files = {path.name for path in checkpoints[-1].iterdir()}
    assert files == {"index.json", "arrays.bin"}
    record = json.loads((checkpoints[-1] / "index.json").read_text())
    assert record["state"]["epoch"] == 1
    assert (checkpoints[-1] / "arrays.bin").stat().st_size == sum(
        np.dtype(one["dtype"]).itemsize * int(np.prod(one["shape"]))
        for one in record["arrays"]
    )


@pytest.mark.slow
def test_finished_run_does_nothing_more_and_more_epochs_extend_it(tmp_path, whole):
    class NoBatch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            raise CrashError

    model, _ = fit(tmp_path, epochs=2)
    again, history = fit(tmp_path, NoBatch(), epochs=2)
    assert numbers(again) == numbers(model)
    assert history.epoch == [0, 1]
    check_same(tmp_path, *fit(tmp_path), whole)


@pytest.mark.slow
def test_early_stopped_run_is_finished(tmp_path):
    class StopAt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert epoch < 2
            self.model.stop_training = epoch == 1

    model, _ = fit(tmp_path, StopAt())
    again, history = fit(tmp_path, StopAt())
    assert numbers(again) == numbers(model)
    assert history.epoch == [0, 1]


def test_run_on_other_batches_is_refused_before_anything_changes(tmp_path):
    fit(tmp_path, epochs=1)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="are of a run on other batches"):
        fit(tmp_path, seed=1, fitted=False)
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert after == before


def test_other_callbacks_are_refused(tmp_path):
    fit(tmp_path, epochs=1)
    batches = class_balanced_batches((X, LABELS), 4, 2)
    with pytest.raises(ValueError, match=r"callbacks must be those .* FreezeTrunk, "):
        Resume(tmp_path / "checkpoints", batches, [keras.callbacks.EarlyStopping()])


def test_another_model_is_refused(tmp_path):
    batches = class_balanced_batches((X, LABELS), 4, 2)
    for width in (4, 5):
        inputs = keras.Input((5,))
        outputs = NormalizedSoftmax(8)(keras.layers.Dense(width)(inputs))
        model = keras.Model(inputs, outputs)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
        resume = Resume(tmp_path, batches)
        options = {"epochs": width, "shuffle": False, "verbose": 0}
        if width == 4:
            model.fit(batches, callbacks=[resume], **options)
        else:
            with pytest.raises(ValueError, match="it is of another model"):
                model.fit(batches, callbacks=[resume], **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"minutes": -1}, "minutes must be"),
        ({"keep": 1}, "keep must be"),
        ({"batches": [1]}, "batches must be what class_balanced_batches"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    batches = class_balanced_batches((X, LABELS), 4, 2)
    with pytest.raises(ValueError, match=message):
        Resume(**{"folder": tmp_path / "new", "batches": batches, **arguments})
    assert not (tmp_path / "new").exists()


def test_place_of_batches_is_found_through_what_is_made_of_them():
    batches = class_balanced_batches((X, LABELS), 4, 2)
    position = batch_position(batches.map(lambda x, y: (x, y)).prefetch(1))
    assert position is batch_position(batches)
    assert position.steps_per_epoch == STEPS
    position.next_step = STEPS + 2
    later = class_balanced_batches((X, LABELS), 4, 2, initial_step=STEPS + 2)
    for (x, y), (expected_x, expected_y) in zip(batches, later, strict=True):
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)


def test_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(OSError, match="checkpoints"):
        fit(tmp_path, fitted=False)


@pytest.mark.slow
def test_what_a_killed_writer_left_is_removed(tmp_path, whole):
    with pytest.raises(CrashError):
        fit(tmp_path, CrashAt(step=1))
    folder = tmp_path / "checkpoints"
    left = folder / ".step-000000000003.unfinished.abc"
    shutil.copytree(max(folder.glob("step-*")), left)
    check_same(tmp_path, *fit(tmp_path), whole)
    assert sorted(os.listdir(folder)) == [
        "logs_at_start.json",
        f"step-{4 * STEPS - 1:012d}",
        f"step-{4 * STEPS:012d}",
    ]


def small_model():
    model = keras.Sequential([keras.Input((5,)), NormalizedSoftmax(8)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_epochs_that_are_not_one_pass_are_refused(tmp_path):
    batches = class_balanced_batches((X, LABELS), 4, 2)
    with pytest.raises(ValueError, match=r"^batches repeat forever"):
        Resume(tmp_path / "new", batches.repeat())
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match=f"has 2 steps, and a pass over .* {STEPS}"):
        small_model().fit(
            batches,
            steps_per_epoch=2,
            verbose=0,
            callbacks=[Resume(tmp_path / "new", batches)],
        )


def test_second_fit_with_one_object_is_refused(tmp_path):
    batches = class_balanced_batches((X, LABELS), 4, 2)
    resume = Resume(tmp_path / "new", batches)
    options = {"shuffle": False, "verbose": 0, "callbacks": [resume]}
    small_model().fit(batches, **options)
    with pytest.raises(ValueError, match="this Resume was in a fit before"):
        small_model().fit(batches, **options)


def test_log_of_an_earlier_training_is_not_taken_for_this_ones(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss\n0,1.0\n1,0.5\n2,0.25\n")
    batches = class_balanced_batches((X, LABELS), 4, 2)
    for others in ([CrashAt(step=STEPS + 1)], []):
        callbacks = [keras.callbacks.CSVLogger(log)]
        resume = Resume(tmp_path / "new", batches, callbacks, minutes=60)
        with contextlib.suppress(CrashError):
            small_model().fit(
                batches,
                epochs=2,
                shuffle=False,
                verbose=0,
                callbacks=[*callbacks, *others, resume],
            )
        callbacks[0].csv_file.close()
    rows = list(csv.DictReader(log.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(float(row["loss"]) > 0 for row in rows)


def test_damaged_note_of_the_start_is_named(tmp_path):
    batches = class_balanced_batches((X, LABELS), 4, 2)
    Resume(tmp_path / "new", batches)
    (tmp_path / "new" / "logs_at_start.json").write_text("{")
    with pytest.raises(ValueError, match=r"logs_at_start.json' is damaged. .* delete"):
        Resume(tmp_path / "new", batches)
