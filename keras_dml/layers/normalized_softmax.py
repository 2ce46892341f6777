"""The classifier that learns an embedding: cosines over a temperature."""

from __future__ import annotations

import random
from numbers import Integral
from numbers import Real
from typing import Any

import keras

from keras_dml._checks import checked_integer
from keras_dml._checks import checked_number
from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import Tensor
from keras_dml._ops import gather_replicas
from keras_dml._ops import gather_rows
from keras_dml._ops import ops
from keras_dml.layers._sampling import class_labels
from keras_dml.layers._sampling import drawn_classes
from keras_dml.layers._sampling import sampling_correction
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
        seed: an integer that the draws follow, with the step; None for one at random.
        class_weights_initializer: a Keras initializer of the class weights. None, the
            default, draws from U(-1/√dim, 1/√dim), as the released code does.
        class_weights_regularizer: a Keras regularizer of the class weights, or None.
            It reads all of them, so a step of the sampled softmax costs that.
        class_weights_constraint: a Keras constraint on the class weights, such as
            `keras.constraints.UnitNorm(axis=1)`, or None. It is applied to all of them
            after each step, with the same cost.
        **kwargs: those of every Keras layer, such as `name` and `dtype`.

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
            **kwargs,
        )
        self.temperature = checked_number(
            temperature, "temperature", above=0, example=0.05
        )
        self.sampled_classes = _checked_sample(sampled_classes, self.num_classes)
        self.seed = None if seed is None else checked_integer(seed, "seed")
        if self.sampled_classes is not None:
            if IS_KERAS_2:
                raise ValueError("sampled_classes needs Keras 3; leave it out.")
            if self.seed is None:
                self.seed = random.randrange(2**31)
            self.seed_generator = keras.random.SeedGenerator(self.seed)
            # Seen as a weight it is saved, and a loaded model draws on from there.
            self.draws = self.seed_generator.state
            # XLA has no tf.random_index_shuffle.
            self.supports_jit = keras.backend.backend() != "tensorflow"

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the class weights for embeddings of `input_shape[-1]` numbers."""
        super().build(input_shape)
        if self.sampled_classes is not None:
            self.class_weights.updates_by_row = True

    def _uniform(self, dim):
        initializer = super()._uniform(dim)
        if self.sampled_classes is None or keras.backend.backend() != "tensorflow":
            return initializer
        import tensorflow as tf

        # Drawn eagerly, the weights would take their memory three times.
        return tf.function(initializer)

    def call(self, embeddings: Tensor, training: bool = False) -> Tensor:
        """Computes the logits of all classes."""
        if training and self.sampled_classes is not None:
            raise ValueError(
                f"{self.name} draws sampled_classes={self.sampled_classes} classes for "
                "a training step, which needs the labels: train "
                "keras_dml.models.Classifier(embedder, softmax) in place of a "
                "keras.Model, or call sampled_logits(embeddings, labels)."
            )
        return self._cosines(embeddings, self.class_weights) / self.temperature

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
        if self.sampled_classes is None:
            raise ValueError(
                f"{self.name} draws no classes; make it with sampled_classes, such as "
                "0.1, or call it for the logits of all classes."
            )
        labels, is_class = class_labels(labels, self.num_classes)
        own = gather_replicas(labels)
        drawn = drawn_classes(
            self.num_classes, self.sampled_classes, self.seed_generator
        )
        weights = gather_rows(self.class_weights, ops.concatenate([own, drawn]))
        logits = self._cosines(embeddings, weights) / self.temperature
        correction = sampling_correction(own, drawn, self.num_classes)
        logits = logits + ops.cast(correction, logits.dtype)
        logits = ops.where(is_class[:, None], logits, float("nan"))
        columns = ops.argmax(labels[:, None] == own[None, :], axis=1)
        return logits, ops.cast(columns, "int32")

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the arguments above included."""
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "sampled_classes": self.sampled_classes,
            "seed": self.seed,
        }


def _checked_sample(
    sampled_classes: int | float | None, num_classes: int
) -> int | None:
    """Gives how many classes to draw, from a number or a share; None for all."""
    if sampled_classes is None:
        return None
    is_number = isinstance(sampled_classes, Integral)
    if isinstance(sampled_classes, bool) or not (
        1 <= sampled_classes <= num_classes
        if is_number
        else isinstance(sampled_classes, Real) and 0 < sampled_classes <= 1
    ):
        raise ValueError(
            f"sampled_classes must be an integer from 1 to num_classes={num_classes}, "
            "a share of the classes (a float above 0, at most 1), or None; got "
            f"{sampled_classes!r}."
        )
    if is_number:
        return int(sampled_classes)
    return max(1, round(float(sampled_classes) * num_classes))
