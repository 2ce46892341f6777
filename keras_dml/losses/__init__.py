"""Losses that rival the normalized softmax; they need Keras alone.

Those on pairs take (labels, embeddings); those on proxies take (labels, cosines), which
`keras_dml.layers.Proxies` gives and whose weights it holds.
"""

from keras_dml.losses.arc_face import ArcFace
from keras_dml.losses.contrastive import Contrastive
from keras_dml.losses.cos_face import CosFace
from keras_dml.losses.lifted_structure import LiftedStructure
from keras_dml.losses.multi_similarity import MultiSimilarity
from keras_dml.losses.n_pairs import NPairs
from keras_dml.losses.pair_loss import PairLoss
from keras_dml.losses.proxy_anchor import ProxyAnchor
from keras_dml.losses.proxy_loss import ProxyLoss
from keras_dml.losses.proxy_nca import ProxyNCA
from keras_dml.losses.proxy_nca_plus_plus import ProxyNCAPlusPlus
from keras_dml.losses.triplet_hard import TripletHard
from keras_dml.losses.triplet_semi_hard import TripletSemiHard

__all__ = [
    "ArcFace",
    "Contrastive",
    "CosFace",
    "LiftedStructure",
    "MultiSimilarity",
    "NPairs",
    "PairLoss",
    "ProxyAnchor",
    "ProxyLoss",
    "ProxyNCA",
    "ProxyNCAPlusPlus",
    "TripletHard",
    "TripletSemiHard",
]
