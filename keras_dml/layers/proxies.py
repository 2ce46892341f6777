"""Cosines of embeddings with the trained vectors of each class."""

from __future__ import annotations

import random
from numbers import Integral
from numbers import Real
from typing import Any

import keras

from keras_dml._checks import checked_integer
from keras_dml._checks import checked_number
from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import NOT_AUTOCAST
from keras_dml._ops import Tensor
from keras_dml._ops import gather_replicas
from keras_dml._ops import gather_rows
from keras_dml._ops import ops
from keras_dml.layers._sampling import class_labels
from keras_dml.layers._sampling import drawn_classes
from keras_dml.layers._sampling import sampling_correction
from keras_dml.layers.l2_normalization import l2_normalize


@keras.saving.register_keras_serializable(package="keras_dml")
class Proxies(keras.layers.Layer):
    """Cosine of each embedding with each proxy, the trained weight vector of a class.

    `cosines[i, z] = cos(x_i, p_z)`: what the losses on proxies take, such as
    `keras_dml.losses.ProxyAnchor` and `ArcFace`. Both are scaled to length 1 in each
    call, so only their angle counts. At test time leave the layer off and compare the
    embeddings.

    A class may have several `centers` p_z1 … p_zK in place of one proxy. Its cosine is
    then the greatest, `max_k cos(x, p_zk)`, as sub-center ArcFace has it, or with a
    `center_temperature` their mean weighed by a softmax,
    `Σ_k softmax_k(cos(x, p_zk) / center_temperature) cos(x, p_zk)`, as SoftTriple has
    it.

    With `sampled_classes` a training step computes the cosines with the classes of its
    batch and others drawn at random, so that it costs what the sample costs, not what
    all classes would; `keras_dml.models.Classifier` trains it, and `sampled_cosines`
    says what is drawn. Evaluation counts all classes.

    Weights and arithmetic are float32 whatever the mixed-precision policy (float64
    where the layer's dtype is float64). A zero vector gives zeros and finite gradients.

    Args:
        num_classes: the number of training classes, from 1 to 2³¹ - 1.
        class_weights_initializer: a Keras initializer of the class weights. None, the
            default, draws from U(-1/√dim, 1/√dim), as the paper's released code does.
        class_weights_regularizer: a Keras regularizer of the class weights, or None.
            It reads all of them, so a step over a sample costs that.
        class_weights_constraint: a Keras constraint on the class weights, such as
            `keras.constraints.UnitNorm(axis=1)`, or None. It is applied to all of them
            after each step, with the same cost.
        centers: how many vectors a class has, 1 or more.
        center_temperature: above 0, or None for the greatest cosine of the centers.
        sampled_classes: how many classes to draw in each training step, beside those of
            the batch: an integer from 1 to `num_classes`, or a share of the classes, a
            float above 0 and at most 1. None, the default, takes all classes.
        seed: an integer of at least 0 that the draws follow, with the step; None for
            one at random.
        **kwargs: those of every Keras layer, such as `name` and `dtype`.

    Call arguments:
        embeddings: (batch, dim) floats, of any length.

    Returns:
        (batch, num_classes) cosines from -1 to 1, float32 (float64 for float64).

    Raises:
        ValueError: if an argument is out of range, the input is not (batch, dim), or
            the layer is called in training without the labels that sampling needs.

    Weights:
        class_weights: (num_classes * centers, dim), one row a proxy, those of a class
            next to each other. With `sampled_classes` only the rows of the sample are
            read and, on TensorFlow, have a gradient; `keras_dml.optimizers.SGD` then
            updates those alone.

    Example:
        >>> cosines = keras_dml.layers.Proxies(4)(embedder.output)
        >>> cosines.shape
        (None, 4)
        >>> model = keras.Model(embedder.input, cosines)
        >>> model.compile("sgd", keras_dml.losses.ProxyAnchor())

    Reference:
        [Movshovitz-Attias et al., 2017](https://arxiv.org/abs/1703.07464);
        [Deng et al., 2020](https://doi.org/10.1007/978-3-030-58621-8_43) and
        [Qian et al., 2019](https://arxiv.org/abs/1909.05235), on several centers.
    """

    def __init__(
        self,
        num_classes: int,
        class_weights_initializer: Any = None,
        class_weights_regularizer: Any = None,
        class_weights_constraint: Any = None,
        centers: int = 1,
        center_temperature: float | None = None,
        sampled_classes: int | float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
        self.num_classes = checked_integer(num_classes, "num_classes", 1, 2**31 - 1)
        self.class_weights_initializer = keras.initializers.get(
            class_weights_initializer
        )
        self.class_weights_regularizer = keras.regularizers.get(
            class_weights_regularizer
        )
        self.class_weights_constraint = keras.constraints.get(class_weights_constraint)
        self.centers = checked_integer(centers, "centers", 1)
        self.center_temperature = (
            None
            if center_temperature is None
            else checked_number(
                center_temperature, "center_temperature", above=0, example=0.1
            )
        )
        self.sampled_classes = _checked_sample(sampled_classes, self.num_classes)
        self.seed = None if seed is None else checked_integer(seed, "seed", 0)
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
        dim = input_shape[-1]
        if len(input_shape) != 2 or dim is None:
            raise ValueError(
                f"{type(self).__name__} takes embeddings of shape (batch, dim) with "
                f"dim known; got shape {tuple(input_shape)}. Pool or flatten them "
                "first."
            )
        self.class_weights = self.add_weight(
            shape=(self.num_classes * self.centers, dim),
            initializer=self.class_weights_initializer or self._uniform(dim),
            regularizer=self.class_weights_regularizer,
            constraint=self.class_weights_constraint,
            dtype=self._weights_dtype,
            **NOT_AUTOCAST,
            name="class_weights",
        )
        if self.sampled_classes is not None:
            self.class_weights.updates_by_row = True
        self.built = True

    def _uniform(self, dim):
        """Gives the default initializer, which draws its seed here, when built."""
        initializer = keras.initializers.RandomUniform(-(dim**-0.5), dim**-0.5)
        if self.sampled_classes is None or keras.backend.backend() != "tensorflow":
            return initializer
        import tensorflow as tf

        # Drawn eagerly, the weights would take their memory three times.
        return tf.function(initializer)

    @property
    def _weights_dtype(self):
        return "float64" if self.variable_dtype == "float64" else "float32"

    def call(self, embeddings: Tensor, training: bool = False) -> Tensor:
        """Computes the cosines with all classes."""
        if training and self.sampled_classes is not None:
            raise ValueError(
                f"{self.name} draws sampled_classes={self.sampled_classes} classes for "
                "a training step, which needs the labels: train "
                "keras_dml.models.Classifier(embedder, layer) in place of a "
                "keras.Model, or call its method with embeddings and labels, "
                "sampled_logits or sampled_cosines."
            )
        return self._cosines(embeddings, self.class_weights)

    def _cosines(self, embeddings, class_weights):
        embeddings = ops.cast(embeddings, self._weights_dtype)
        # `@`, as Keras's matmul makes float32 of float64 on PyTorch.
        cosines = l2_normalize(embeddings) @ ops.transpose(l2_normalize(class_weights))
        if self.centers == 1:
            return cosines
        classes = ops.shape(cosines)[1] // self.centers
        cosines = ops.reshape(cosines, (-1, classes, self.centers))
        if self.center_temperature is None:
            return ops.max(cosines, axis=-1)
        shares = ops.softmax(cosines / self.center_temperature, axis=-1)
        return ops.sum(shares * cosines, axis=-1)

    def sampled_cosines(
        self, embeddings: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Computes the cosines with the batch's classes and others drawn at random.

        The columns are the labels of the batch, those of all replicas where there are
        several, and then the classes drawn. A class in two columns counts in the first
        of them alone, and has a cosine of -1e9 in the other. The drawn classes stand
        for all that are not in the batch: with c classes in the batch and d others
        drawn, a softmax over the columns estimates that over all classes if
        log((num_classes - c) / d) is added to the logits of those d.

        Args:
            embeddings: (piece, dim) floats: the batch, or a replica's piece of it.
            labels: (piece,) or (piece, 1) integers from 0 to `num_classes` - 1.
                Others raise `tf.errors.InvalidArgumentError` on TensorFlow, and make
                the cosines NaN or raise on other backends.

        Returns:
            (cosines, columns, correction): (piece, batch + sampled_classes) floats;
            (piece,) int32, the column of each image's own class; and
            (batch + sampled_classes,) floats, what to add to the logits of each column,
            0 or more.

        Raises:
            ValueError: if the layer has no `sampled_classes`, or the labels have
                another shape.

        Reference:
            [An et al., 2022](https://arxiv.org/abs/2203.15565), whose sample it is, but
            for the correction: theirs has none.
        """
        cosines, columns, correction, is_class = self._sampled(embeddings, labels)
        cosines = cosines + ops.minimum(correction, 0)
        cosines = ops.where(is_class[:, None], cosines, float("nan"))
        return cosines, columns, ops.maximum(correction, 0)

    def _sampled(self, embeddings, labels):
        """Gives (cosines, columns, correction, is_class) of a new draw of classes."""
        if self.sampled_classes is None:
            raise ValueError(
                f"{self.name} draws no classes; make it with sampled_classes, such as "
                "0.1, or call it for all classes."
            )
        labels, is_class = class_labels(labels, self.num_classes)
        own = gather_replicas(labels)
        drawn = drawn_classes(
            self.num_classes, self.sampled_classes, self.seed_generator
        )
        rows = ops.concatenate([own, drawn])
        if self.centers > 1:
            of_class = ops.arange(self.centers, dtype="int32")
            rows = ops.reshape(rows[:, None] * self.centers + of_class, (-1,))
        cosines = self._cosines(embeddings, gather_rows(self.class_weights, rows))
        correction = sampling_correction(own, drawn, self.num_classes)
        columns = ops.argmax(labels[:, None] == own[None, :], axis=1)
        return (
            cosines,
            ops.cast(columns, "int32"),
            ops.cast(correction, cosines.dtype),
            is_class,
        )

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Gives (batch, num_classes)."""
        return (*input_shape[:-1], self.num_classes)

    def compute_output_spec(
        self, embeddings: keras.KerasTensor, training: bool = False
    ) -> keras.KerasTensor:
        """Gives shape and dtype, where Keras would take the layer's compute dtype."""
        shape = self.compute_output_shape(embeddings.shape)
        return keras.KerasTensor(shape, self._weights_dtype)

    def get_config(self) -> dict[str, Any]:
        """Gives the configuration, the arguments above included."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "class_weights_initializer": keras.initializers.serialize(
                self.class_weights_initializer
            ),
            "class_weights_regularizer": keras.regularizers.serialize(
                self.class_weights_regularizer
            ),
            "class_weights_constraint": keras.constraints.serialize(
                self.class_weights_constraint
            ),
            "centers": self.centers,
            "center_temperature": self.center_temperature,
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
