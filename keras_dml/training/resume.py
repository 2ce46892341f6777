"""A callback that lets `fit` go on, bit for bit, where it was stopped."""

from __future__ import annotations

import json
import math
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dml._checks import checked_integer
from keras_dml._checks import checked_number
from keras_dml._files import write_json
from keras_dml._ops import IS_KERAS_2
from keras_dml.data import batch_position
from keras_dml.training._checkpoints import read_newest_checkpoint
from keras_dml.training._checkpoints import write_checkpoint
from keras_dml.training._log_files import cut_logs
from keras_dml.training._log_files import log_sizes
from keras_dml.training._state import check_callbacks
from keras_dml.training._state import count_replicas
from keras_dml.training._state import has_finite_weights
from keras_dml.training._state import jax_state
from keras_dml.training._state import read_callbacks
from keras_dml.training._state import read_variables
from keras_dml.training._state import strategy_scope
from keras_dml.training._state import write_callbacks
from keras_dml.training._state import write_variables
from keras_dml.training._workers import count_workers
from keras_dml.training._workers import gather_from_workers
from keras_dml.training._workers import is_chief
from keras_dml.training._workers import sum_over_workers

_LOGS_AT_START = "logs_at_start.json"


class Resume(keras.callbacks.Callback):
    """Saves checkpoints during `fit`, and goes on from the newest when it starts again.

    A script that is stopped, by a power cut, `kill -9` or Ctrl-C, and started again
    with the same folder, goes on at the step of its newest checkpoint. All that the
    rest of the training depends on is as it was there: weights, the optimizer's state,
    random state, metrics of the epoch so far, the position in the batches, and what
    Keras's callbacks remember, such as the best score and the patience left. So with
    `tf.config.experimental.enable_op_determinism()` the weights at the end are those of
    an uninterrupted run, bit for bit. `CSVLogger` and `TensorBoard` go on in their
    files, from which what was logged after the checkpoint is removed, and the `History`
    has all epochs. On SIGTERM and Ctrl-C, `fit` saves after the batch and ends; a
    second Ctrl-C ends it at once. A run that is finished does nothing more, unless
    `fit` is given more epochs.

    It must be the last of the callbacks. Checkpoints are folders of plain numbers with
    checksums, written whole or not at all; they hold no pickle. If the newest is
    damaged, the one before counts, and a line says so. None is written after a loss,
    or with a trained weight, that is infinite or NaN; `StopOnNonFiniteLoss` ends `fit`
    there.

    Args:
        folder: where checkpoints are kept; made when the first is written. Delete it to
            start anew.
        batches: what `fit` is given: batches of `class_balanced_batches` or
            `shuffled_batches`, with or without what `map` and the like make of them. An
            epoch of `fit` is one pass over them: without `repeat()` and
            `steps_per_epoch`.
        callbacks: all the other callbacks that `fit` is given, in their order. One of
            your own that remembers something from epoch to epoch has a method
            `get_state()`, which returns a dictionary of numbers, and of lists of
            arrays, by name, and `set_state(state)`, which takes it back.
        minutes: between checkpoints, 0 or more. One is also written at the end of the
            last epoch.
        keep: checkpoints that are kept, at least 2.

    Raises:
        ValueError: if an argument is out of range, batches repeat forever, or the
            checkpoints are of other batches or callbacks, or all damaged; or, when
            training starts, if the model is another one, is not built, or has another
            number of replicas, an epoch is not one pass, the workers find other
            checkpoints, or this object was in a `fit` before: it reads the checkpoint
            when it is made.
        OSError: if the folder can't be written.

    Example:
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=3, image_size=28
        ... )
        >>> callbacks = [keras.callbacks.CSVLogger("log.csv")]
        >>> resume = Resume("checkpoints", batches, callbacks)
        >>> history = model.fit(
        ...     batches, epochs=2, verbose=0, callbacks=[*callbacks, resume]
        ... )
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        batches: tf.data.Dataset,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        minutes: float = 5,
        keep: int = 2,
    ):
        super().__init__()
        if IS_KERAS_2:
            raise ValueError(f"Resume needs Keras 3; found {keras.__version__}.")
        self.folder = pathlib.Path(folder)
        self.minutes = checked_number(minutes, "minutes", least=0)
        self.keep = checked_integer(keep, "keep", 2)
        self._position = batch_position(batches)
        self._batches = int(batches.cardinality())
        if self._batches == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "batches repeat forever, and Resume needs epochs of one pass each. "
                "Leave out repeat(), here and in fit, and steps_per_epoch."
            )
        self._used = False
        self._callbacks = list(callbacks)
        self._history: dict[str, list[float]] = {}
        self._resumed = read_newest_checkpoint(self.folder, _say)
        self._epoch = self._step = 0
        if self._resumed is not None:
            state, _ = self._resumed
            self._check_same_run(state)
            cut_logs(self._callbacks, state["logs"])
            self._epoch, self._step = state["epoch"], state["step"]
        elif is_chief():
            self._cut_logs_of_a_start_without_checkpoint()
        # The state of callbacks before they see the end of the epoch, which changes it:
        # what is saved if a signal comes then.
        self._end_of_epoch: tuple[dict[str, Any], dict[str, Any]] | None = None
        # The signal that came to this worker, and the one that all workers end by.
        self._heard: int | None = None
        self._signal: int | None = None
        self._until_meeting = self._steps_to_meeting = 1
        self._met_at = 0.0
        self._diverged = False
        self._handlers: dict[int, Any] = {}

    def _cut_logs_of_a_start_without_checkpoint(self):
        file = self.folder / _LOGS_AT_START
        if file.is_file():
            try:
                sizes = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                raise ValueError(
                    f"{str(file)!r} is damaged. No checkpoint was written yet: delete "
                    f"{str(self.folder)!r} to start anew."
                ) from None
            cut_logs(self._callbacks, sizes)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(file, log_sizes(self._callbacks, at_start=True))

    def _check_same_run(self, state):
        if state["fingerprint"] != self._position.fingerprint:
            raise ValueError(
                f"the checkpoints in {str(self.folder)!r} are of a run on other "
                "batches: other labels, number of images, batch shape, crop or seed. "
                "Give the same, or another folder."
            )
        check_callbacks(self._callbacks, state["callbacks"])

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Goes to where the newest checkpoint is."""
        if self._used:
            raise ValueError(
                "this Resume was in a fit before. Make another for each fit, as it "
                "reads the checkpoint when it is made."
            )
        self._used = True
        steps = self.params.get("steps")
        if steps and self._batches > 0 and steps != self._batches:
            raise ValueError(
                f"an epoch of fit has {steps} steps, and a pass over batches "
                f"{self._batches}. Leave out steps_per_epoch, and give Resume the "
                "batches that fit is given; take(n) makes epochs shorter."
            )
        self._check_all_resume_alike()
        self._saved_at = self._met_at = time.monotonic()
        self._heard = self._signal = None
        self._until_meeting = self._steps_to_meeting = 1
        self._diverged = False
        self._listen_to_signals()
        if self._resumed is None:
            return
        state, _ = self._resumed
        replicas = count_replicas(self.model)
        if state["replicas"] != replicas:
            raise ValueError(
                f"the checkpoints in {str(self.folder)!r} are of a run on "
                f"{state['replicas']} replicas; this one has {replicas}. Give it as "
                "many devices, or another folder."
            )
        self._history = state["history"]
        epochs = self.params["epochs"]
        finished = self._epoch >= epochs or (
            state["stopped"] and epochs <= state["epochs"]
        )
        self.model._initial_epoch = epochs if finished else self._epoch
        if self._step == 0:
            self._build()
            self._restore()
        if finished:
            _say(f"training is finished already, after epoch {self._epoch}.")
        else:
            where = f", after {self._step} batches" if self._step else ""
            _say(f"training goes on in epoch {self._epoch + 1} of {epochs}{where}.")

    def _check_all_resume_alike(self):
        found = gather_from_workers(np.array([self._epoch, self._step]))
        if any((one != found[0]).any() for one in found):
            places = "; ".join(
                f"worker {worker} in epoch {epoch + 1}, after {step} batches"
                for worker, (epoch, step) in enumerate(found)
            )
            raise ValueError(
                f"the workers find other checkpoints in {str(self.folder)!r}: they "
                f"would begin {places}. Give a folder on a disk that all of them share."
            )

    def _build(self):
        if not self.model.built:
            raise ValueError(
                "Resume needs a model that is built: call it on a batch before fit."
            )
        with strategy_scope(self.model):
            if not self.model.optimizer.built:
                self.model.optimizer.build(self.model.trainable_variables)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Sets the batches to the epoch's first, or the first after a checkpoint."""
        self.model._initial_epoch = None  # `fit` has read it.
        self._fill_history()
        self._end_of_epoch = None
        self._epoch = epoch
        self._position.next_step = epoch * self._position.steps_per_epoch
        if self._resumed is None:
            self._step = 0
        else:
            self._skip_batches()

    def _skip_batches(self):
        """Lets `fit` count the batches before the checkpoint without training on them.

        It trains on the last of them, which builds all that Keras builds in a first
        step; then everything is put to what the checkpoint has.
        """
        model, backend = self.model, keras.backend.backend()
        calls = self._step // model.steps_per_execution
        if backend != "torch":  # whose `fit` reads a batch before each call
            self._position.next_step += self._step - model.steps_per_execution
        train_function = model.train_function

        def skip(*arguments):
            nonlocal calls
            calls -= 1
            if calls:
                return ({}, arguments[0]) if backend == "jax" else {}
            train_function(*arguments)
            self._restore()
            model.train_function = train_function
            logs = dict(model.get_metrics_result())
            return (logs, jax_state(model)) if backend == "jax" else logs

        model.train_function = skip

    def _restore(self):
        """Puts everything to what the checkpoint has."""
        state, arrays = self._resumed
        write_callbacks(self._callbacks, state["callbacks"], arrays)
        # Between epochs metrics are at their start, and may not be made yet.
        write_variables(self.model, arrays, with_metrics=self._step > 0)
        self._resumed = None

    def _fill_history(self):
        """Puts earlier epochs into Keras's `History`, which begins empty."""
        history = self.model.history
        epochs = max(map(len, self._history.values()), default=0)
        if len(history.epoch) < epochs:
            history.epoch = list(range(epochs))
            history.history = {key: list(v) for key, v in self._history.items()}

    def on_train_batch_end(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Saves a checkpoint if it is time, or a signal asks for it."""
        if self._resumed is not None:  # The batch was skipped.
            return
        self._step = batch + 1
        loss = (logs or {}).get("loss", 0)
        if not math.isfinite(loss):
            self._diverge(f"the loss became {loss}")
        if self._meet():
            self._save(self._state())
        self._end_if_signaled()
        if self._step >= self._position.steps_per_epoch:
            # Callbacks of the end of the epoch may lower the learning rate.
            state, arrays = self._state()
            scalars = read_variables(self.model, scalars_only=True)
            self._end_of_epoch = state, {**arrays, **scalars}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Notes the logs, and saves a checkpoint if it is time, or the last epoch."""
        for name, value in (logs or {}).items():
            self._history.setdefault(name, []).append(float(value))
        self._end_of_epoch = None
        self._epoch, self._step = epoch + 1, 0
        is_last = self._epoch >= self.params["epochs"] or self.model.stop_training
        if self._meet(at_once=True) or is_last:
            self._save(self._state())
        if not is_last:
            self._end_if_signaled()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Leaves signals to whoever had them before `fit`."""
        self._fill_history()
        self.model._initial_epoch = None
        self._meet(at_once=True)
        self._leave_signals()
        self._end_if_signaled()

    def _is_time(self):
        return time.monotonic() - self._saved_at >= 60 * self.minutes

    def _meet(self, at_once=False):
        """Whether to save now, which all workers do and end together.

        They ask each other about once a second: after each batch it would cost too much
        where batches are small.
        """
        if count_workers() == 1:
            self._signal = self._heard
            return self._signal is not None or self._is_time()
        self._until_meeting -= 1
        if self._until_meeting > 0 and not at_once:
            return False
        steps_of_chief = self._steps_in_a_second() if is_chief() else 0
        interrupts, terminations, is_time, steps = sum_over_workers(
            [
                self._heard == signal.SIGINT,
                self._heard == signal.SIGTERM,
                is_chief() and self._is_time(),
                steps_of_chief,
            ]
        )
        self._until_meeting = self._steps_to_meeting = steps
        self._met_at = time.monotonic()
        if interrupts or terminations:
            self._signal = signal.SIGINT if interrupts else signal.SIGTERM
        return bool(interrupts or terminations or is_time)

    def _steps_in_a_second(self):
        if self.minutes == 0:
            return 1
        done = self._steps_to_meeting - max(0, self._until_meeting)
        seconds = time.monotonic() - self._met_at
        return min(1000, max(1, int(done / max(seconds, 1e-3))))

    def _state(self):
        """All that is not in variables: (what JSON takes, arrays)."""
        states, arrays = read_callbacks(self._callbacks)
        state = {
            "epoch": self._epoch,
            "step": self._step,
            "epochs": self.params["epochs"],
            "stopped": self.model.stop_training,
            "replicas": count_replicas(self.model),
            "fingerprint": self._position.fingerprint,
            "history": {key: list(values) for key, values in self._history.items()},
            "callbacks": states,
            "logs": log_sizes(self._callbacks),
        }
        return state, arrays

    def _diverge(self, what):
        if not self._diverged:
            _say(f"{what}; from here on no checkpoint is saved.")
        self._diverged = True

    def _save(self, state_and_arrays):
        if not self._diverged and not has_finite_weights(self.model):
            self._diverge("a weight became infinite or NaN")
        if self._diverged:
            return
        state, arrays = state_and_arrays
        step = state["epoch"] * self._position.steps_per_epoch + state["step"]
        arrays = {**read_variables(self.model), **arrays}
        if is_chief():
            write_checkpoint(self.folder, step, state, arrays, self.keep)
        self._saved_at = time.monotonic()

    def _listen_to_signals(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._on_signal)

    def _leave_signals(self):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _on_signal(self, number, frame):
        if self._heard is not None or not _is_in_fit(frame, self.model):
            self._leave_signals()
            signal.raise_signal(number)
            return
        self._heard = number
        if self._end_of_epoch is not None and count_workers() == 1:
            self._signal = number
            self._save(self._end_of_epoch)
            self._end_if_signaled()
        _say("saving after this batch; once more ends the run without that.")

    def _end_if_signaled(self):
        if self._signal is None:
            return
        self._leave_signals()
        saved = "stays as it was" if self._diverged else "is saved"
        _say(f"the run {saved} in {str(self.folder)!r}; start the same again to go on.")
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + self._signal)


def _is_in_fit(frame, model):
    """Whether the signal came within the model's `fit`, which may have failed since."""
    while frame is not None:
        if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model:
            return True
        frame = frame.f_back
    return False


def _say(sentence):
    if is_chief():
        print(f"\nResume: {sentence}", file=sys.stderr)
