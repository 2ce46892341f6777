"""The classifier that learns an embedding: cosine logits over a temperature."""

from numbers import Integral

import keras

from keras_dml._ops import NOT_AUTOCAST
from keras_dml._ops import ops
from keras_dml.layers.l2_normalization import l2_normalize


@keras.saving.register_keras_serializable(package="keras_dml")
class NormalizedSoftmax(keras.layers.Layer):
    """Cosine of each embedding with each class weight, over a temperature.

    `logits[i, z] = cos(x_i, p_z) / temperature`, where `p_z` is the weight vector
    (proxy) of class z. Both are scaled to length 1 in each call, so only their angle
    counts. Train it with softmax cross-entropy from logits; at test time leave it
    off and compare the embeddings.

    Weights and arithmetic are float32 whatever the mixed-precision policy (float64
    where the layer's dtype is float64). A zero vector gives zero logits and finite
    gradients.

    Args:
        num_classes: the number of training classes, at least 1.
        temperature: divides the cosine, positive. The default, 0.05, is the paper's.

    Call arguments:
        embeddings: (batch, dim) floats, of any length.

    Returns:
        (batch, num_classes) logits from `-1 / temperature` to `1 / temperature`.

    Raises:
        ValueError: if an argument is out of range or the input is not (batch, dim).

    Weights:
        class_weights: (num_classes, dim), one row a class, started from
            U(-1/√dim, 1/√dim) as in the released code.

    Example:
        >>> logits = keras_dml.layers.NormalizedSoftmax(100)(embedder.output)
        >>> model = keras.Model(embedder.input, logits)
        >>> model.compile(
        ...     "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        ... )

    Reference:
        [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649), section 3.1; first in
        [NormFace](https://arxiv.org/abs/1704.06369).
    """

    def __init__(self, num_classes, temperature=0.05, **kwargs):
        """Checks the arguments; the class docstring has them."""
        kwargs.setdefault("autocast", False)
        super().__init__(**kwargs)
        if not (isinstance(num_classes, Integral) and num_classes >= 1):
            raise ValueError(
                f"num_classes must be an integer of at least 1; got {num_classes!r}."
            )
        if not temperature > 0:
            raise ValueError(
                f"temperature must be positive, such as 0.05; got {temperature}."
            )
        self.num_classes = int(num_classes)
        self.temperature = float(temperature)

    def build(self, input_shape):
        """Creates the class weights for embeddings of `input_shape[-1]` numbers."""
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(
                "NormalizedSoftmax takes embeddings of shape (batch, dim) with dim "
                f"known; got shape {tuple(input_shape)}. Pool or flatten them first."
            )
        dim = input_shape[-1]
        self.class_weights = self.add_weight(
            shape=(self.num_classes, dim),
            initializer=keras.initializers.RandomUniform(-(dim**-0.5), dim**-0.5),
            dtype="float64" if self.variable_dtype == "float64" else "float32",
            **NOT_AUTOCAST,
            name="class_weights",
        )
        self.built = True

    def call(self, embeddings):
        """Gives the logits."""
        embeddings = ops.cast(embeddings, self.class_weights.dtype)
        # `@`, as Keras's matmul makes float32 of float64 on PyTorch.
        directions = ops.transpose(l2_normalize(self.class_weights))
        return l2_normalize(embeddings) @ directions / self.temperature

    def get_config(self):
        """Adds the number of classes and the temperature to the configuration."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "temperature": self.temperature,
        }
