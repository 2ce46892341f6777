"""Deep metric learning as classification, in plain Keras.

`layers`, `losses`, `models` and `optimizers` need Keras alone and are imported at once,
so that saved models find them. The other rooms need TensorFlow or Annoy and are
imported when first named: `keras_dml.data`, `.evaluation`, `.training`, `.serving`.
"""

import importlib

from keras_dml import layers
from keras_dml import losses
from keras_dml import models
from keras_dml import optimizers

__version__ = "0.1.0"

_ON_DEMAND = ("data", "evaluation", "search", "serving", "training")

__all__ = [
    "data",
    "evaluation",
    "layers",
    "losses",
    "models",
    "optimizers",
    "search",
    "serving",
    "training",
]


def __getattr__(name):
    if name in _ON_DEMAND:
        return importlib.import_module(f"keras_dml.{name}")
    raise AttributeError(f"module 'keras_dml' has no attribute {name!r}")
