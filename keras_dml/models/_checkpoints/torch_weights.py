"""Assigning PyTorch's weights to a Keras model of the same architecture."""

from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np

from keras_dml._ops import weight_name

_VECTOR = (0,)

# (layer, {Keras's name: (PyTorch's name, PyTorch's axes in Keras's order)}). PyTorch
# stores the kernel of a convolution as (out, in, height, width), of a depthwise one as
# (channels, 1, height, width), and of a linear layer as (out, in).
_WEIGHTS = (
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
    every "." (which Keras's PyTorch backend does not allow in a name): the layer
    "layer1-0-conv1" takes "layer1.0.conv1.weight". The model's own name and "-" may
    come first, for modules whose name begins with "_", which TensorFlow does not allow
    at the beginning.

    Args:
        model: a trunk of Conv2D, DepthwiseConv2D, Dense, BatchNormalization and
            layers without weights.
        tensors: {PyTorch name: array}, floats of any width; they are cast to the dtype
            of the trunk's weights.
        source: where the tensors are from, for error messages.
        ignored_modules: PyTorch modules whose tensors are ignored, such as a
            classifier's "fc". The `num_batches_tracked` of the trunk's own batch
            norms, which Keras does not use, is always ignored.

    Raises:
        ValueError: if tensors are missing, of another shape, not finite, or neither
            used nor ignored. Nothing has been assigned then.
        TypeError: if the model has weights in a layer of another kind.
    """
    wanted = _wanted_tensors(model)
    problems = {
        "missing": [name for name in wanted if name not in tensors],
        "unknown": [
            name
            for name in tensors
            if name not in wanted and not _is_ignored(name, wanted, ignored_modules)
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
    found = [f"{kind}: {_listed(names)}" for kind, names in problems.items() if names]
    if found:
        raise ValueError(
            f"{source} does not hold the weights of {model.name}. {'; '.join(found)}. "
            "Give the state dict of the same architecture in PyTorch."
        )
    for variable, value in values:
        variable.assign(value)


def _wanted_tensors(model):
    """{PyTorch name: (Keras variable, axes)} of every weight of the model."""
    wanted = {}
    for layer in model.layers:
        if not layer.weights:
            continue
        parts = next((parts for kind, parts in _WEIGHTS if isinstance(layer, kind)), {})
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


def _is_ignored(name, wanted, ignored_modules):
    module, _, last = name.rpartition(".")
    is_counter = last == "num_batches_tracked" and f"{module}.running_mean" in wanted
    return is_counter or any(name.startswith(f"{one}.") for one in ignored_modules)


def _listed(names, most=10):
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
