"""Trains on a NaN in the fifth of twelve batches, and prints what comes of it.

The backend is the environment's. No callback makes `fit` wait for each batch.
"""

import keras
import numpy as np

from keras_dml.training import StopOnNonFiniteLoss


class Notes(keras.callbacks.Callback):
    """Says that a callback of the end of the epoch was called."""

    def on_epoch_end(self, epoch, logs=None):
        print("the epoch ended")


x = np.ones((96, 5), np.float32)
x[35] = np.nan
model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.SGD(0.125), "mse")
try:
    model.fit(
        *(x, np.zeros((96, 1), np.float32)),
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[StopOnNonFiniteLoss(), Notes()],
    )
except FloatingPointError as error:
    print(keras.backend.backend(), str(error).partition(" Train anew")[0])
