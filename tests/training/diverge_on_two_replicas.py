"""Gives one of two replicas a NaN in the second batch, and prints what comes of it."""

import keras
import numpy as np

from keras_dml.training import StopOnNonFiniteLoss
from keras_dml.training import mirrored_strategy

x = np.ones((32, 5), np.float32)
x[15] = np.nan  # the last of the second batch of 8
with mirrored_strategy(logical_cpus=2).scope():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
try:
    model.fit(
        x,
        np.zeros((32, 1)),
        batch_size=8,
        shuffle=False,
        verbose=0,
        callbacks=[StopOnNonFiniteLoss()],
    )
except FloatingPointError as error:
    print(error)
