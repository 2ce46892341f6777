"""Learning-rate multipliers that fall from the output of a network to its input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from keras_dml._checks import checked_number

# A block of a network of convolutions ends in one of these, a layer or an operation.
_MERGES = ("Add", "Concatenate")


def layer_wise_decay(trunk: keras.Model, decay: float) -> list[tuple[list[Any], float]]:
    """Gives multipliers that fall by a factor a block from the output to the input.

    Of n blocks the last gets `decay`, the one before `decay**2`, the first `decay**n`.
    What is on top of the trunk keeps the whole learning rate, and so does a
    normalization that comes after the last block. So a pretrained trunk keeps more of
    what its lower layers know, as vision transformers are fine-tuned: BEiT takes 0.65
    for the base model and 0.75 for the large one, among others.

    A block is a block of a transformer, which is a layer of layers, or, among plain
    layers, what lies between one place where branches are added or concatenated and the
    next: a residual block, an inception module. Where nothing is, as in VGG, each
    convolution is one. What a transformer has before its first block, such as its
    patches and their positions, counts as one block, and the first convolution of a
    residual network as a part of the first.

    Args:
        trunk: a network, such as a KerasHub backbone, one of `keras.applications` or
            one of `keras_dml.models.trunk`. Models within it are taken apart.
        decay: above 0, to 1.

    Returns:
        A list of (variables, multiplier) from the input to the output, with every
        trainable variable of the trunk once, for the optimizer's `set_multiplier`.

    Raises:
        ValueError: if trunk is not a model, or decay is out of range.

    Example:
        >>> model.optimizer.build(model.trainable_variables)
        >>> for variables, multiplier in layer_wise_decay(trunk, 0.5):
        ...     model.optimizer.set_multiplier(variables, multiplier)
        ...     print(len(variables), multiplier)
        3 0.0625
        3 0.125
        3 0.25
        3 0.5

    Reference:
        [Clark et al., 2020](https://arxiv.org/abs/2003.10555), appendix A;
        [Bao et al., 2022](https://arxiv.org/abs/2106.08254)
    """
    if not isinstance(trunk, keras.Model):
        raise ValueError(f"trunk must be a keras.Model; got {trunk!r}.")
    decay = checked_number(decay, "decay", above=0, most=1, example=0.75)
    blocks, top = _blocks(trunk)
    groups = [
        (variables, decay ** (len(blocks) - index))
        for index, variables in enumerate([*blocks, top])
    ]
    return [(variables, multiplier) for variables, multiplier in groups if variables]


def _blocks(trunk):
    """Gives the variables of each block, and those that come after the last block."""
    parts = list(_parts(trunk))
    merges = any(kind == "merge" for kind, _ in parts)
    blocks, block, has_kernel = [], [], False
    for kind, variables in parts:
        if has_kernel and (
            kind in ("merge", "block") or (kind == "kernel" and not merges)
        ):
            blocks.append(block)
            block, has_kernel = [], False
        block = block + variables
        if kind == "block":
            blocks.append(block)
            block = []
        has_kernel = has_kernel or kind == "kernel"
    if has_kernel:
        return [*blocks, block], []
    return blocks, block


def _parts(layer: Any) -> Iterator[tuple[str, list[Any]]]:
    """Takes a network apart, from the input to the output.

    Yields:
        (kind, trainable variables): "merge", where branches meet; "block", a layer of
        layers; "kernel", another layer with a matrix or a kernel; "rest", what only has
        scales and offsets.
    """
    seen: set[int] = set()
    for kind, variables in _parts_and_shared(layer):
        new = [variable for variable in variables if id(variable) not in seen]
        seen.update(map(id, new))
        if new or not variables:
            yield kind, new


def _parts_and_shared(layer):
    sublayers = _sublayers(layer)
    if type(layer).__name__ in _MERGES:
        yield "merge", []
    elif isinstance(layer, keras.Model):
        # With operations that are no layers, of which only Keras 3 tells.
        for part in getattr(layer, "operations", layer.layers):
            yield from _parts_and_shared(part)
    elif not isinstance(layer, keras.layers.Layer) or not layer.weights:
        return
    elif _is_stack(sublayers):
        inner = {id(weight) for part in sublayers for weight in part.weights}
        own = [v for v in layer.trainable_variables if id(v) not in inner]
        yield "rest", own
        for part in sublayers:
            yield from _parts_and_shared(part)
    else:
        yield _kind(layer), layer.trainable_variables


def _kind(layer):
    if not any(sum(side > 1 for side in w.shape) > 1 for w in layer.weights):
        return "rest"
    is_plain = isinstance(layer, keras.layers.MultiHeadAttention)
    return "kernel" if is_plain or not _sublayers(layer) else "block"


def _sublayers(layer):
    """Gives the layers with weights that a layer is made of."""
    if not isinstance(layer, keras.layers.Layer):
        return []
    layers = layer._flatten_layers(include_self=False, recursive=False)
    return [sublayer for sublayer in layers if sublayer.weights]


def _is_stack(sublayers):
    """Whether they are blocks, of which one has the class of another."""
    classes = [type(part) for part in sublayers if _kind(part) == "block"]
    return len(set(classes)) < len(classes)
