"""TensorBoard with epochs from 1, and the untrained model at 0."""

import pathlib
from collections.abc import Mapping
from typing import Any

import keras


class EpochTensorBoard(keras.callbacks.TensorBoard):
    """Keras's `TensorBoard`, whose step 0 is the untrained model.

    Args:
        folder: the folder of the logs.
        untrained: figures measured before training, by the names they have in the logs
            of an epoch. Written with the first epoch, so that a run which goes on from
            a checkpoint has them once.
    """

    def __init__(self, folder: pathlib.Path, untrained: Mapping[str, float]):
        super().__init__(str(folder), write_graph=False)
        self.untrained = untrained

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the figures of the epoch."""
        if epoch == 0:
            super().on_epoch_end(0, dict(self.untrained))
        super().on_epoch_end(epoch + 1, logs)
