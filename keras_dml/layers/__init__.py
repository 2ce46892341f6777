"""The layers of the method: cosine logits, pooling, normalizations of an embedding.

They need Keras alone, and run on each of its backends. `_sampling` is an inner file:
which classes the sampled softmax of `NormalizedSoftmax` draws.
"""

from keras_dml.layers.center_merging import CenterMerging
from keras_dml.layers.generalized_mean_pooling import GeneralizedMeanPooling
from keras_dml.layers.l2_normalization import L2Normalization
from keras_dml.layers.l2_normalization import l2_normalize
from keras_dml.layers.normalized_softmax import NormalizedSoftmax
from keras_dml.layers.parameter_free_layer_normalization import (
    ParameterFreeLayerNormalization,
)
from keras_dml.layers.proxies import Proxies

__all__ = [
    "CenterMerging",
    "GeneralizedMeanPooling",
    "L2Normalization",
    "NormalizedSoftmax",
    "ParameterFreeLayerNormalization",
    "Proxies",
    "l2_normalize",
]
