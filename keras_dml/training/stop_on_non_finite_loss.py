"""A callback that ends training when its numbers are lost."""

from __future__ import annotations

import math
import os
import pathlib
import threading
from collections.abc import Mapping
from typing import Any

import keras

from keras_dml._ops import ops
from keras_dml.training._checkpoints import newest_checkpoint
from keras_dml.training._state import has_finite_weights

_REMEDY = (
    "Train anew with a lower learning rate, with one that is warmed up, or with "
    "gradients clipped by the optimizer's clipnorm."
)

_AT_THE_FIRST_STEP = (
    "As it was the first step, look for NaN in the images, the labels and loaded "
    "weights too."
)

_SECONDS_FOR_OTHERS = 60


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Ends `fit` with an error at the first batch whose loss is infinite or NaN.

    The error names the step, the learning rate and the newest checkpoint. Nothing that
    comes after `fit` runs, where Keras's `TerminateOnNaN` ends `fit` as if it were
    finished, and what comes next saves weights that are NaN. After each epoch the
    trained weights are looked at too, as a finite loss can have a gradient that is not.

    List it first, so that no other callback saves what came of that loss. It looks at
    the logs that Keras has at hand, which are means over the epoch so far, and makes no
    step wait for the device: on JAX and PyTorch the error may come a few batches late,
    but before the end of the epoch, and names the right one. Gradients that are not
    finite and that `LossScaleOptimizer` skips, as it often does, end nothing.

    Args:
        checkpoints: the folder of `Resume`, whose newest undamaged checkpoint the error
            names; `Resume` saves none after such a loss. None if there are none.

    Raises:
        FloatingPointError: by `fit`, where the loss, or a weight at the end of an
            epoch, is infinite or NaN. With `steps_per_execution` it names the last of
            the steps that ran together.

    Example:
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=2, images_per_class=3, image_size=28
        ... )
        >>> history = model.fit(
        ...     batches, verbose=0, callbacks=[StopOnNonFiniteLoss()]
        ... )
    """

    async_safe = True  # What makes Keras 3 not wait for each batch's logs.

    def __init__(self, checkpoints: str | os.PathLike | None = None):
        super().__init__()
        self.checkpoints = None if checkpoints is None else pathlib.Path(checkpoints)
        self._looked_at_one = threading.Condition()

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Forgets what an earlier `fit` ended with."""
        self._thread = threading.get_ident()
        self._epoch = self._last_batch = 0
        self._found: tuple[int, float] | None = None
        self._begun = self._looked_at = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Notes the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Ends `fit` if an earlier batch's loss, seen meanwhile, was not finite."""
        if self._found is not None:  # in another thread
            with self._looked_at_one:  # Batches before it may be looked at later.
                self._looked_at_one.wait_for(
                    lambda: self._looked_at >= self._begun, _SECONDS_FOR_OTHERS
                )
            self._end_if_found()
        self._last_batch = batch
        self._begun += 1

    def on_train_batch_end(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Looks at the loss. Keras may call this in another thread, and out of turn."""
        loss = (logs or {}).get("loss", 0.0)
        with self._looked_at_one:
            self._looked_at += 1
            self._looked_at_one.notify()
            if math.isfinite(loss):
                return
            if self._found is None or batch < self._found[0]:
                self._found = batch, float(loss)
        if threading.get_ident() == self._thread:
            self._end_if_found()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Ends `fit` if a batch's loss was not finite, or if a weight is not."""
        self._end_if_found()
        if not has_finite_weights(self.model):
            self._end("a weight became infinite or NaN", self._last_batch)

    def _end_if_found(self):
        if self._found is not None:
            batch, loss = self._found
            self._end(f"the loss became {loss}", batch)

    def _end(self, what, batch):
        steps = self.params.get("steps")
        overall = f", step {self._epoch * steps + batch + 1:,} in all" if steps else ""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        sentences = [
            f"{what} at step {batch + 1:,} of epoch {self._epoch + 1:,}{overall}, with "
            f"a learning rate of {rate:g}.",
            _REMEDY,
        ]
        if self._epoch == batch == 0:
            sentences.append(_AT_THE_FIRST_STEP)
        if self.checkpoints is not None:
            newest = newest_checkpoint(self.checkpoints)
            found = "There is no good checkpoint of before."
            if newest is not None:
                found = f"The newest good checkpoint is {newest}."
            sentences.insert(1, found)
        raise FloatingPointError(" ".join(sentences))
