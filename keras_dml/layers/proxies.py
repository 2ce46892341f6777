"""Cosines of embeddings with one trained vector a class."""

from __future__ import annotations

from typing import Any

import keras

from keras_dml._checks import checked_integer
from keras_dml._ops import NOT_AUTOCAST
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.layers.l2_normalization import l2_normalize


@keras.saving.register_keras_serializable(package="keras_dml")
class Proxies(keras.layers.Layer):
    """Cosine of each embedding with each proxy, the trained weight vector of a class.

    `cosines[i, z] = cos(x_i, p_z)`: what `keras_dml.losses.ProxyNCA`,
    `ProxyNCAPlusPlus`, `ProxyAnchor`, `CosFace` and `ArcFace` take. Both are scaled to
    length 1 in each call, so only their angle counts. At test time leave the layer off
    and compare the embeddings.

    Weights and arithmetic are float32 whatever the mixed-precision policy (float64
    where the layer's dtype is float64). A zero vector gives zeros and finite gradients.

    Args:
        num_classes: the number of training classes, from 1 to 2³¹ - 1.
        class_weights_initializer: a Keras initializer of the class weights. None, the
            default, draws from U(-1/√dim, 1/√dim), as the paper's released code does.
        class_weights_regularizer: a Keras regularizer of the class weights, or None.
        class_weights_constraint: a Keras constraint on the class weights, such as
            `keras.constraints.UnitNorm(axis=1)`, or None.
        **kwargs: those of every Keras layer, such as `name` and `dtype`.

    Call arguments:
        embeddings: (batch, dim) floats, of any length.

    Returns:
        (batch, num_classes) cosines from -1 to 1, float32 (float64 for float64).

    Raises:
        ValueError: if num_classes is out of range or the input is not (batch, dim).

    Weights:
        class_weights: (num_classes, dim), one row a class, its proxy.

    Example:
        >>> cosines = keras_dml.layers.Proxies(4)(embedder.output)
        >>> cosines.shape
        (None, 4)
        >>> model = keras.Model(embedder.input, cosines)
        >>> model.compile("sgd", keras_dml.losses.ProxyAnchor())

    Reference:
        [Movshovitz-Attias et al., 2017](https://arxiv.org/abs/1703.07464).
    """

    def __init__(
        self,
        num_classes: int,
        class_weights_initializer: Any = None,
        class_weights_regularizer: Any = None,
        class_weights_constraint: Any = None,
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
            shape=(self.num_classes, dim),
            initializer=self.class_weights_initializer or self._uniform(dim),
            regularizer=self.class_weights_regularizer,
            constraint=self.class_weights_constraint,
            dtype=self._weights_dtype,
            **NOT_AUTOCAST,
            name="class_weights",
        )
        self.built = True

    def _uniform(self, dim):
        """Gives the default initializer, which draws its seed here, when built."""
        return keras.initializers.RandomUniform(-(dim**-0.5), dim**-0.5)

    @property
    def _weights_dtype(self):
        return "float64" if self.variable_dtype == "float64" else "float32"

    def call(self, embeddings: Tensor) -> Tensor:
        """Computes the cosines."""
        return self._cosines(embeddings, self.class_weights)

    def _cosines(self, embeddings, class_weights):
        embeddings = ops.cast(embeddings, self._weights_dtype)
        # `@`, as Keras's matmul makes float32 of float64 on PyTorch.
        return l2_normalize(embeddings) @ ops.transpose(l2_normalize(class_weights))

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
        }
