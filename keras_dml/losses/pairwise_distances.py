"""Euclidean distances within a batch, or of a batch from other images."""

from __future__ import annotations

from keras_dml._checks import checked_bool
from keras_dml._ops import Tensor
from keras_dml._ops import dtype_name
from keras_dml._ops import ops


def pairwise_distances(
    embeddings: Tensor, squared: bool = False, references: Tensor | None = None
) -> Tensor:
    """Computes the distance of each embedding from each other, `|x_i - x_j|`.

    By `|x|² + |y|² - 2 x·y`, so with its rounding: what is within that of 0 (5e-7 of
    the squared lengths in float32, 1e-15 in float64) counts as 0. There the gradient is
    0 too, as the root's own is infinite.

    TensorFlow Addons has the same in `losses.metric_learning.pairwise_distance`.

    Args:
        embeddings: (batch, dim) floats.
        squared: whether to leave the root out.
        references: (references, dim) floats of the same dtype, from which to measure;
            None: the embeddings themselves.

    Returns:
        (batch, batch) or (batch, references) distances, 0 or more, of float64 for
        float64 and of float32 for all other dtypes.

    Raises:
        ValueError: if squared is no bool, or the shapes are others.

    Example:
        >>> corners = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
        >>> distances = keras_dml.losses.pairwise_distances(corners)
        >>> keras.ops.convert_to_numpy(distances)
        array([[0., 3., 4.],
               [3., 0., 5.],
               [4., 5., 0.]])
    """
    squared = checked_bool(squared, "squared")
    embeddings, rounding = _wide(embeddings, "embeddings")
    # `@`, as Keras's matmul makes float32 of float64 on PyTorch.
    if references is None:
        products = embeddings @ ops.transpose(embeddings)
        lengths = ops.diagonal(products)
        lengths = lengths[:, None] + lengths[None, :]
    else:
        references, _ = _wide(references, "references")
        if embeddings.shape[1] != references.shape[1]:
            raise ValueError(
                "embeddings and references must have rows of one width; got shapes "
                f"{tuple(embeddings.shape)} and {tuple(references.shape)}."
            )
        products = embeddings @ ops.transpose(references)
        lengths = ops.sum(ops.square(embeddings), axis=-1)[:, None]
        lengths = lengths + ops.sum(ops.square(references), axis=-1)[None, :]
    squares = lengths - 2 * products
    is_apart = squares > rounding * lengths
    if squared:
        return ops.where(is_apart, squares, 0)
    # The root never sees what is left out, or its gradient would be 0 times infinity.
    root = ops.sqrt(ops.where(is_apart, squares, 1))
    return ops.where(is_apart, root, 0)


def _wide(embeddings, name):
    """Gives embeddings of float32 or float64, and the rounding of that."""
    embeddings = ops.convert_to_tensor(embeddings)
    if len(embeddings.shape) != 2:
        raise ValueError(
            f"{name} must have shape (batch, dim); got {tuple(embeddings.shape)}."
        )
    if dtype_name(embeddings.dtype) == "float64":
        return embeddings, 1e-15
    return ops.cast(embeddings, "float32"), 5e-7
