"""Losses of deep metric learning, to compare the normalized softmax with.

Those on pairs take (labels, embeddings); those on proxies take (labels, cosines), which
`keras_dml.layers.Proxies` computes and whose weights it holds.

A new loss is a file here with one class: a `PairLoss` whose `batch_loss` computes a
number from the pairs of a batch, or a `ProxyLoss` whose `image_losses` computes one for
each image from its cosines. It is registered with
`keras.saving.register_keras_serializable`, has its arguments in `get_config`, and is
listed below. `contrastive.py` and `cos_face.py` show how, and
`tests/losses/check_loss.py` has what every loss must pass.
"""

from keras_dml.losses.arc_face import ArcFace
from keras_dml.losses.circle import Circle
from keras_dml.losses.contrastive import Contrastive
from keras_dml.losses.cos_face import CosFace
from keras_dml.losses.lifted_structure import LiftedStructure
from keras_dml.losses.multi_similarity import MultiSimilarity
from keras_dml.losses.multi_similarity_miner import MultiSimilarityMiner
from keras_dml.losses.n_pairs import NPairs
from keras_dml.losses.pair_loss import PairLoss
from keras_dml.losses.pairwise_distances import pairwise_distances
from keras_dml.losses.proxy_anchor import ProxyAnchor
from keras_dml.losses.proxy_loss import ProxyLoss
from keras_dml.losses.proxy_nca import ProxyNCA
from keras_dml.losses.proxy_nca_plus_plus import ProxyNCAPlusPlus
from keras_dml.losses.soft_triple import SoftTriple
from keras_dml.losses.sub_center_arc_face import SubCenterArcFace
from keras_dml.losses.supervised_contrastive import SupervisedContrastive
from keras_dml.losses.triplet_hard import TripletHard
from keras_dml.losses.triplet_semi_hard import TripletSemiHard

__all__ = [
    "ArcFace",
    "Circle",
    "Contrastive",
    "CosFace",
    "LiftedStructure",
    "MultiSimilarity",
    "MultiSimilarityMiner",
    "NPairs",
    "PairLoss",
    "ProxyAnchor",
    "ProxyLoss",
    "ProxyNCA",
    "ProxyNCAPlusPlus",
    "SoftTriple",
    "SubCenterArcFace",
    "SupervisedContrastive",
    "TripletHard",
    "TripletSemiHard",
    "pairwise_distances",
]
