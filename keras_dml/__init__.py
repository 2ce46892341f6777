"""Deep metric learning as classification, in plain Keras.

The rooms, from data to a served model:

- `data`: data sets, and class-balanced batches of them;
- `models`: trunks, the embedding model, the classifier; `layers`, `losses` and
  `optimizers` are their parts, and work in any Keras model;
- `training`: what a run needs around `model.fit`;
- `evaluation`: Recall@K and all else that measures embeddings, exactly;
- `search`: indexes of neighbors, and galleries of images;
- `serving`: a SavedModel for TF Serving, LiteRT and ONNX.

`layers`, `losses`, `models` and `optimizers` need Keras alone, on any of its backends,
and are imported at once, so that saved models find them. The other rooms are imported
when they are first named: `data`, `evaluation`, `search`, `serving` and `training` need
TensorFlow, `search` needs Annoy once an Annoy index is made.
"""

import importlib
import types

from keras_dml import layers
from keras_dml import losses
from keras_dml import models
from keras_dml import optimizers

__version__ = "0.2.0"

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


def __getattr__(name: str) -> types.ModuleType:
    if name in _ON_DEMAND:
        return importlib.import_module(f"keras_dml.{name}")
    raise AttributeError(f"module 'keras_dml' has no attribute {name!r}")
