"""The classifier that learns an embedding: cosines over a temperature."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._checks import checked_number
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.layers.proxies import Proxies


@keras.saving.register_keras_serializable(package="keras_dml")
class NormalizedSoftmax(Proxies):
    """Cosine of each embedding with each class weight, over a temperature.

    `logits[i, z] = cos(x_i, p_z) / temperature`, where `p_z` is the weight vector
    (proxy) of class z, as in `Proxies`. Train it with softmax cross-entropy from
    logits; at test time leave it off and compare the embeddings.

    Weights and arithmetic are float32 whatever the mixed-precision policy (float64
    where the layer's dtype is float64). A zero vector gives zero logits and finite
    gradients.

    With `sampled_classes` the softmax of a training step runs over the classes of its
    batch and others drawn at random, so that a step costs what the sample costs, not
    what all classes would; `keras_dml.models.Classifier` trains it, and
    `sampled_logits` has the formula. Evaluation counts all classes.

    Args:
        num_classes: the number of training classes, from 1 to 2³¹ - 1.
        temperature: divides the cosine, above 0. The default, 0.05, is the paper's.
        sampled_classes: how many classes to draw in each training step, beside those of
            the batch: an integer from 1 to `num_classes`, or a share of the classes, a
            float above 0 and at most 1. None, the default, takes all classes. The
            paper loses little recall at a share of 0.1.
        seed: an integer of at least 0 that the draws follow, with the step; None for
            one at random.
        class_weights_initializer: a Keras initializer of the class weights. None, the
            default, draws from U(-1/√dim, 1/√dim), as the released code does.
        class_weights_regularizer: a Keras regularizer of the class weights, or None.
            It reads all of them, so a step of the sampled softmax costs that.
        class_weights_constraint: a Keras constraint on the class weights, such as
            `keras.constraints.UnitNorm(axis=1)`, or None. It is applied to all of them
            after each step, with the same cost.
        **kwargs: those of `Proxies` and of every Keras layer, such as `name`.

    Call arguments:
        embeddings: (batch, dim) floats, of any length.

    Returns:
        (batch, num_classes) logits from `-1 / temperature` to `1 / temperature`,
        float32 (float64 for float64).

    Raises:
        ValueError: if an argument is out of range, the input is not (batch, dim), or
            the layer is called in training without the labels that sampling needs.

    Weights:
        class_weights: (num_classes, dim), one row a class. With `sampled_classes` only
            the rows of the sample are read and, on TensorFlow, have a gradient;
            `keras_dml.optimizers.SGD` then updates those alone.

    Example:
        >>> logits = keras_dml.layers.NormalizedSoftmax(4)(embedder.output)
        >>> logits.shape
        (None, 4)
        >>> model = keras.Model(embedder.input, logits)
        >>> model.compile(
        ...     "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        ... )

    Reference:
        [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649), section 3.1; first in
        [NormFace](https://arxiv.org/abs/1704.06369).
    """

    def __init__(
        self,
        num_classes: int,
        temperature: float = 0.05,
        sampled_classes: int | float | None = None,
        seed: int | None = None,
        class_weights_initializer: Any = None,
        class_weights_regularizer: Any = None,
        class_weights_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_classes,
            class_weights_initializer,
            class_weights_regularizer,
            class_weights_constraint,
            sampled_classes=sampled_classes,
            seed=seed,
            **kwargs,
        )
        self.temperature = checked_number(
            temperature, "temperature", above=0, example=0.05
        )

    def call(self, embeddings: Tensor, training: bool = False) -> Tensor:
        """Computes the logits of all classes."""
        return super().call(embeddings, training) / self.temperature

    def sampled_logits(
        self, embeddings: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Computes the logits of the batch's classes and of others drawn at random.

        The columns are the labels of the batch, those of all replicas where there are
        several, and then the classes drawn. A class in two columns counts in the
        first of them alone. The drawn classes stand for all that are not in the batch:
        with c classes in the batch and d others drawn, log((num_classes - c) / d) is
        added to the logits of those d. So the softmax's denominator is an unbiased
        estimate of that over all classes, and equal to it where all are drawn; the
        loss, its logarithm, comes out too low on average by about half the estimate's
        squared relative deviation (Jensen's inequality). Where d is 0, which takes no
        more `sampled_classes` than the batch has classes, the others are left out.

        Args:
            embeddings: (piece, dim) floats: the batch, or a replica's piece of it.
            labels: (piece,) or (piece, 1) integers from 0 to `num_classes` - 1.
                Others raise `tf.errors.InvalidArgumentError` on TensorFlow, and make
                the logits NaN or raise on other backends.

        Returns:
            (logits, columns): (piece, batch + sampled_classes) floats, and (piece,)
            int32, the column of each image's own class, for a softmax cross-entropy.

        Raises:
            ValueError: if the layer has no `sampled_classes`, or the labels have
                another shape.

        Reference:
            [Jean et al., 2015](https://arxiv.org/abs/1412.2007), for such an estimate;
            [An et al., 2022](https://arxiv.org/abs/2203.15565), for keeping the
            batch's own classes.
        """
        cosines, columns, correction, is_class = self._sampled(embeddings, labels)
        logits = cosines / self.temperature + correction
        return ops.where(is_class[:, None], logits, float("nan")), columns

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the arguments above included."""
        return {**super().get_config(), "temperature": self.temperature}
