import keras
import numpy as np
import pytest

from experiments._lib.best_weights import BestWeights


class Figures(keras.callbacks.Callback):
    """Adds given figures to the logs of the epochs."""

    def __init__(self, figures):
        super().__init__()
        self.figures = figures

    def on_epoch_end(self, epoch, logs=None):
        logs["figure"] = self.figures[epoch]


@pytest.mark.parametrize(
    ("untrained", "figures", "best_epoch"),
    [
        (0.5, [0.4, 0.49, 0.3], 0),
        (1.0, [1.0, 1.0, 0.9], 2),
        (0.5, [0.4, 0.6, 0.55], 2),
        (0.5, [float("nan"), float("nan"), 0.7], 3),
    ],
)
def test_weights_of_the_best_epoch_come_back(untrained, figures, best_epoch):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    after = [model.get_weights()]
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: after.append(model.get_weights())
    )
    model.fit(
        np.ones((4, 2)),
        np.ones(4),
        epochs=3,
        verbose=0,
        callbacks=[Figures(figures), keep, BestWeights("figure", untrained)],
    )
    for weight, expected in zip(model.get_weights(), after[best_epoch], strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert (after[0][0] != after[3][0]).any()
