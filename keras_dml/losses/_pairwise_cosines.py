"""Cosines within a batch, or of a batch with other images."""

from __future__ import annotations

from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.layers import l2_normalize


def pairwise_cosines(embeddings: Tensor, references: Tensor | None = None) -> Tensor:
    """Gives (batch, references), the references being the batch itself if None."""
    embeddings = l2_normalize(embeddings)
    references = embeddings if references is None else l2_normalize(references)
    # `@`, as Keras's matmul makes float32 of float64 on PyTorch.
    return embeddings @ ops.transpose(references)
