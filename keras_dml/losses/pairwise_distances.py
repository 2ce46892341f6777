"""Euclidean distances within a batch."""

from keras_dml._ops import dtype_name
from keras_dml._ops import ops


def distances(embeddings, squared=False):
    """The distance of each embedding from each, `|x_i - x_j|`.

    What is within rounding of 0 counts as 0 and has a gradient of 0, as the root's own
    is infinite there.

    Args:
        embeddings: (batch, dim) floats.
        squared: leave the root out.

    Returns:
        (batch, batch), 0 or more.
    """
    # `@`, as Keras's matmul makes float32 of float64 on PyTorch.
    products = embeddings @ ops.transpose(embeddings)
    lengths = ops.diagonal(products)
    lengths = lengths[:, None] + lengths[None, :]
    found = lengths - 2 * products
    if dtype_name(embeddings.dtype) == "float64":
        rounding = 1e-15 * lengths
    else:
        rounding = 5e-7 * lengths
    is_apart = found > rounding
    if squared:
        return ops.where(is_apart, found, 0)
    # The root never sees what is left out, or its gradient would be 0 times infinity.
    root = ops.sqrt(ops.where(is_apart, found, 1))
    return ops.where(is_apart, root, 0)
