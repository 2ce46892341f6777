"""N-pairs loss."""

from typing import Any

import keras

from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.losses._masked import masked_logsumexp
from keras_dml.losses._masked import masked_mean
from keras_dml.losses.pair_loss import PairLoss


@keras.saving.register_keras_serializable(package="keras_dml")
class NPairs(PairLoss):
    """Classifies the positive of each class's anchor among all classes' positives.

    A class of the batch gives one pair: its first image is the anchor a, its second the
    positive p; any more, and classes of one image, are left out. The loss is the mean
    over the classes c of

    `log(Σ_d exp(a_c · p_d)) - a_c · p_c`,

    d being all classes with a pair. Make batches of 2 images a class, to waste none.

    The products are of the embeddings as they are. The paper's are not scaled to
    length 1, but kept short by an L2 term, here the optimizer's: give it the output
    before `L2Normalization`, as with unit vectors the softmax is almost flat.

    It is pytorch-metric-learning's `NPairsLoss` on embeddings that it is told not to
    normalize. TensorFlow Addons' `NpairsLoss` is the same softmax over a matrix of
    products that the caller computes.

    Args:
        name: Keras's.
        **kwargs: those of `PairLoss`.

    Call arguments:
        y_true: (batch,) integer labels.
        y_pred: (batch, dim) embeddings.

    Raises:
        ValueError: as in `PairLoss`.

    Example:
        >>> features = keras.Model(embedder.input, embedder.layers[-1].input)
        >>> features.compile("sgd", keras_dml.losses.NPairs())
        >>> batches = keras_dml.data.class_balanced_batches(
        ...     train, classes=4, images_per_class=2, image_size=28
        ... )
        >>> history = features.fit(batches, verbose=0)

    Reference:
        [Sohn, 2016](https://papers.nips.cc/paper/6200), equation 7.
    """

    def __init__(self, name: str = "n_pairs", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def batch_loss(
        self, positives: Tensor, negatives: Tensor, embeddings: Tensor
    ) -> Tensor:
        """Computes the loss of the batch."""
        positions = ops.arange(ops.shape(embeddings)[0])
        is_earlier = positions[None, :] < positions[:, None]
        earlier = ops.sum(ops.cast(ops.logical_and(positives, is_earlier), "int32"), -1)
        is_anchor = ops.logical_and(earlier == 0, ops.any(positives, axis=-1))
        is_positive = earlier == 1
        products = embeddings @ ops.transpose(embeddings)
        partition = masked_logsumexp(products, is_positive[None, :])
        losses = partition[:, None] - products
        is_pair = ops.logical_and(is_anchor[:, None], is_positive[None, :])
        return masked_mean(losses, ops.logical_and(is_pair, positives))
