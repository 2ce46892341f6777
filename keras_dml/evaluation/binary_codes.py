"""Embeddings as one bit a dimension."""

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.checked_embeddings import checked_floats


def binary_codes(embeddings: npt.ArrayLike) -> np.ndarray:
    """Keeps one bit a dimension, set where the value is above 0, eight to a byte.

    The rule is that of Zhai & Wu, "Classification is a Strong Baseline for Deep Metric
    Learning", https://arxiv.org/abs/1811.12649: layer normalisation centres the
    features, which makes 0 the threshold.

    Args:
        embeddings: (n, dim) float16, float32 or float64.

    Returns:
        uint8 (n, ceil(dim / 8)), in the bit order of `np.packbits`: the first dimension
        is the highest bit of the first byte, and the last byte is filled with zeros.

    Raises:
        ValueError: if embeddings are empty, not finite, or of another shape or type.

    Example:
        >>> binary_codes([[0.3, -0.2, 0.0, 0.1]])
        array([[144]], dtype=uint8)
    """
    return np.packbits(checked_floats(embeddings, "embeddings") > 0, axis=1)
