"""The weights of the best epoch, kept while training goes on."""

from collections.abc import Mapping
from typing import Any

import keras


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the highest figure, to put back at the end.

    Of equal figures the latest counts: a few easy classes are told apart before and
    after training, which is no reason to undo it. The weights stay in memory, and in
    the checkpoints of `keras_dml.training.Resume`, which must come after this callback.
    Keras's `EarlyStopping` does the same on Keras 3.

    Args:
        monitor: the figure's name in the logs, which may be NaN in some epochs.
        untrained: the figure of the weights that training starts with, which compete
            with those of the epochs.
    """

    def __init__(self, monitor: str, untrained: float):
        super().__init__()
        self.monitor = monitor
        self.best = untrained
        self.weights: list[Any] = []

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Keeps the weights that training starts with."""
        self.weights = self.model.get_weights()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Keeps the weights if they are the best so far."""
        figure = (logs or {}).get(self.monitor, float("nan"))
        if figure >= self.best:  # false for NaN
            self.best = figure
            self.weights = self.model.get_weights()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Puts the best weights back."""
        self.model.set_weights(self.weights)

    def get_state(self) -> dict[str, Any]:
        """What is kept, for `Resume`."""
        return {"best": self.best, "weights": self.weights}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what `get_state` gave."""
        self.best, self.weights = state["best"], state["weights"]
