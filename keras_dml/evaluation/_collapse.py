"""Vectors that are all alike: what a training that collapsed gives every image."""

from __future__ import annotations

import keras
import numpy as np

from keras_dml._ops import ops
from keras_dml._similarity import unit_rows
from keras_dml.layers import Proxies

_COLLAPSED = 0.99
"""Vectors with a mean cosine above this are nearly all alike.

Embeddings of a network that has not learned yet may be: those of the glyphs start at
0.93 to 0.97 and may pass 0.99 in the first epoch, but fall from then on, and class
weights that start at their means with them. Random class weights are near 0, and were
below 0.4 at 250 times the right learning rate.
"""

_BLOCK_VALUES = 2**20
_MOST_CLASS_WEIGHTS = 10_000


def is_collapsed(cosine: float, before: float) -> bool:
    """Whether a mean cosine is that of a collapse: near 1, and not falling.

    Args:
        cosine: the figure now.
        before: that of the measurement before; infinite if there was none.
    """
    return cosine > _COLLAPSED and round(cosine, 4) >= round(before, 4)


def mean_cosine(*parts: np.ndarray) -> float:
    """Computes the mean cosine of all pairs of different rows, from one sum.

    With n unit vectors u_i it is (|Σ u_i|² - n) / (n² - n). Zero rows are like one
    another, and have a cosine of 0 with others.

    Args:
        *parts: (n, dim) floats each, every value finite; two rows at least in all.

    Returns:
        From -1 to 1, but for rounding.
    """
    total: np.ndarray = np.zeros(parts[0].shape[1])
    count = zeros = 0
    step = max(1, _BLOCK_VALUES // parts[0].shape[1])
    for part in parts:
        for start in range(0, len(part), step):
            block = part[start : start + step]
            total += unit_rows(block).sum(axis=0, dtype=np.float64)
            zeros += int((~block.any(axis=1)).sum())
            count += len(block)
    pairs = total @ total - (count - zeros) + zeros * (zeros - 1)
    return float(pairs) / (count * (count - 1))


def class_weights_cosine(model: keras.Model) -> tuple[str, float]:
    """Finds the layer whose class weights are most alike.

    Of more than 10,000 class weights it compares as many, evenly spread.

    Returns:
        (its name, the `mean_cosine` of its class weights); ("", -1) if the model has no
        `Proxies` of two or more.
    """
    found = [("", -1.0)]
    for layer in model._flatten_layers():
        if isinstance(layer, Proxies) and layer.built:
            weights = layer.class_weights
            step = -(-weights.shape[0] // _MOST_CLASS_WEIGHTS)
            some = ops.convert_to_numpy(weights[::step])
            if len(some) > 1 and np.isfinite(some).all():
                found.append((layer.name, mean_cosine(some)))
    return max(found, key=lambda one: one[1])
