"""PyTorch's weights put into a Keras trunk of the same architecture."""

from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np

from keras_dml._ops import weight_name

_LISTED = 10

# {Keras's name: (PyTorch's name, PyTorch's axes in Keras's order)}. PyTorch keeps a
# convolution as (out, in, height, width), one of a group a channel as
# (channels, 1, height, width), and a linear map as (out, in).
_VECTOR = (0,)
_PARTS = (
    (
        keras.layers.Conv2D,
        {"kernel": ("weight", (2, 3, 1, 0)), "bias": ("bias", _VECTOR)},
    ),
    (
        keras.layers.DepthwiseConv2D,
        {"kernel": ("weight", (2, 3, 0, 1)), "bias": ("bias", _VECTOR)},
    ),
    (
        keras.layers.Dense,
        {"kernel": ("weight", (1, 0)), "bias": ("bias", _VECTOR)},
    ),
    (
        keras.layers.BatchNormalization,
        {
            "gamma": ("weight", _VECTOR),
            "beta": ("bias", _VECTOR),
            "moving_mean": ("running_mean", _VECTOR),
            "moving_variance": ("running_var", _VECTOR),
        },
    ),
)


def load_torch_weights(
    model: keras.Model,
    tensors: Mapping[str, np.ndarray],
    source: str,
    ignored_modules: Sequence[str] = (),
) -> None:
    """Assigns the tensors of a PyTorch state dict to a trunk, all of them or none.

    A layer takes the tensors of the PyTorch module that has its name, with "-" for
    every "." (which Keras's PyTorch backend does not admit in a name): the layer
    "layer1-0-conv1" takes "layer1.0.conv1.weight". The model's own name and "-" may
    come first, for modules whose name begins with "_", which TensorFlow does not admit
    at the beginning.

    Args:
        model: a trunk of Conv2D, DepthwiseConv2D, Dense, BatchNormalization and
            layers without weights.
        tensors: {PyTorch name: array}, floats of any width. They end as the trunk's
            own dtype.
        source: where the tensors are from, for the error's sake.
        ignored_modules: PyTorch modules whose tensors may be there and are not taken,
            such as a classifier's "fc". The `num_batches_tracked` of the trunk's own
            batch norms, which Keras has no use for, is always passed over.

    Raises:
        ValueError: if tensors are missing, of another shape, not finite, or neither
            taken nor passed over. Nothing has been assigned then.
        TypeError: if the model has weights in a layer of another kind.
    """
    wanted = _wanted(model)
    problems = {
        "missing": [name for name in wanted if name not in tensors],
        "unknown": [
            name
            for name in tensors
            if name not in wanted and not _passed_over(name, wanted, ignored_modules)
        ],
        "of another shape": [],
        "not finite": [],
    }
    values = []
    for name, (variable, axes) in wanted.items():
        if name not in tensors:
            continue
        tensor = np.asarray(tensors[name])
        shape = tuple(variable.shape[axes.index(axis)] for axis in range(len(axes)))
        if tensor.shape != shape:
            problems["of another shape"].append(f"{name} {tensor.shape}, not {shape}")
            continue
        with np.errstate(over="ignore"):
            tensor = tensor.astype(np.float32)
        if not np.isfinite(tensor).all():
            problems["not finite"].append(name)
        values.append((variable, tensor.transpose(axes)))
    found = [f"{kind}: {_list(names)}" for kind, names in problems.items() if names]
    if found:
        raise ValueError(
            f"{source} does not hold the weights of {model.name}. {'; '.join(found)}. "
            "Give the state dict of the same architecture in PyTorch."
        )
    for variable, value in values:
        variable.assign(value)


def _wanted(model):
    """{PyTorch name: (Keras variable, axes)} of every weight of the model."""
    wanted = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        parts = next((parts for kind, parts in _PARTS if isinstance(layer, kind)), {})
        module = layer.name.removeprefix(f"{model.name}-").replace("-", ".")
        for variable in layer.weights:
            own_name = weight_name(variable)
            if own_name not in parts:
                raise TypeError(
                    f"{model.name} has a layer {layer.name!r} of type "
                    f"{type(layer).__name__}, whose {own_name!r} has no known "
                    "counterpart in PyTorch."
                )
            name, axes = parts[own_name]
            wanted[f"{module}.{name}"] = (variable, axes)
    return wanted


def _passed_over(name, wanted, modules):
    module, _, last = name.rpartition(".")
    counter = last == "num_batches_tracked" and f"{module}.running_mean" in wanted
    return counter or any(name.startswith(f"{one}.") for one in modules)


def _list(names):
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
