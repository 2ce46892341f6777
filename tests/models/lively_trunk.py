"""Trunks of random weights whose features can be told apart."""

import numpy as np

from keras_dml._ops import weight_name
from keras_dml.models import trunk


def lively_trunk(name, input_shape):
    """A trunk whose features don't fade to nothing on their way, as is usual.

    Until training moves its variances from 1, each batch norm lets through about a
    fifth of what each layer of random weights gets.
    """
    model = trunk(name, input_shape)
    for weight in model.weights:
        if weight_name(weight) == "moving_variance":
            weight.assign(np.full(weight.shape, 0.03, "float32"))
    return model
