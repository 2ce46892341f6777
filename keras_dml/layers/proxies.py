"""The cosines that losses on proxies take."""

from numbers import Integral

import keras

from keras_dml._ops import NOT_AUTOCAST
from keras_dml._ops import ops
from keras_dml.layers.l2_normalization import l2_normalize


@keras.saving.register_keras_serializable(package="keras_dml")
class Proxies(keras.layers.Layer):
    """Cosine of each embedding with each proxy, one trained vector a class.

    `cosines[i, z] = cos(x_i, p_z)`: what `keras_dml.losses.ProxyNCA`,
    `ProxyNCAPlusPlus`, `ProxyAnchor`, `CosFace` and `ArcFace` take. At test time leave
    it off and compare the embeddings.

    Weights and arithmetic are float32 whatever the mixed-precision policy (float64
    where the layer's dtype is float64). A zero vector gives zeros and finite gradients.

    Args:
        num_classes: the number of training classes, at least 1.

    Call arguments:
        embeddings: (batch, dim) floats, of any length.

    Returns:
        (batch, num_classes) cosines from -1 to 1.

    Raises:
        ValueError: if num_classes is out of range or the input is not (batch, dim).

    Weights:
        proxies: (num_classes, dim), one row a class, started from U(-1/√dim, 1/√dim)
            as the class weights of `NormalizedSoftmax`, for a fair comparison. Only
            their direction counts.

    Example:
        >>> cosines = keras_dml.layers.Proxies(100)(embedder.output)
        >>> model = keras.Model(embedder.input, cosines)
        >>> model.compile("sgd", keras_dml.losses.ProxyAnchor())

    Reference:
        [Movshovitz-Attias et al., 2017](https://arxiv.org/abs/1703.07464).
    """

    def __init__(self, num_classes, **kwargs):
        """Checks the number of classes; the class docstring has the arguments."""
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
        if not (isinstance(num_classes, Integral) and num_classes >= 1):
            raise ValueError(
                f"num_classes must be an integer of at least 1; got {num_classes!r}."
            )
        self.num_classes = int(num_classes)

    def build(self, input_shape):
        """Creates the proxies for embeddings of `input_shape[-1]` numbers."""
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(
                "Proxies takes embeddings of shape (batch, dim) with dim known; got "
                f"shape {tuple(input_shape)}. Pool or flatten them first."
            )
        dim = input_shape[-1]
        self.proxies = self.add_weight(
            shape=(self.num_classes, dim),
            initializer=keras.initializers.RandomUniform(-(dim**-0.5), dim**-0.5),
            dtype="float64" if self.variable_dtype == "float64" else "float32",
            **NOT_AUTOCAST,
            name="proxies",
        )
        self.built = True

    def call(self, embeddings):
        """Gives the cosines."""
        embeddings = ops.cast(embeddings, self.proxies.dtype)
        # `@`, as Keras's matmul makes float32 of float64 on PyTorch.
        directions = ops.transpose(l2_normalize(self.proxies))
        return l2_normalize(embeddings) @ directions

    def get_config(self):
        """Adds the number of classes to the configuration."""
        return {**super().get_config(), "num_classes": self.num_classes}
