"""The model that turns images into unit vectors."""

import keras

from keras_dml._checks import checked_bool
from keras_dml._checks import checked_integer
from keras_dml.layers import L2Normalization
from keras_dml.layers import ParameterFreeLayerNormalization


def embedding_model(
    trunk: keras.Model, dim: int, layer_norm: bool = True
) -> keras.Model:
    """Puts the paper's embedding head on a trunk.

    Global average pool, parameter-free layer normalization, a linear map without
    bias to `dim` numbers, and L2 normalization. The linear map is left out where
    `dim` equals the trunk's width. It starts from U(-1/√width, 1/√width), as
    PyTorch's linear layer does.

    Args:
        trunk: a model from images to (batch, rows, columns, channels) features, or
            to (batch, channels) already pooled. Its weights are shared, not copied.
        dim: numbers in an embedding, at least 1.
        layer_norm: whether to have the layer normalization; False is for ablations.

    Returns:
        A model from the trunk's input to (batch, dim) float32 unit vectors.

    Raises:
        ValueError: if dim is not a positive integer, layer_norm is no bool, or the
            trunk's output has another shape.

    Example:
        >>> trunk = keras_dml.models.trunk("conv4", (28, 28, 3))
        >>> embedder = keras_dml.models.embedding_model(trunk, dim=16)
        >>> embedder.output_shape
        (None, 16)

    Reference:
        [Zhai & Wu, 2019](https://arxiv.org/abs/1811.12649), figure 1.
    """
    dim = checked_integer(dim, "dim", 1)
    layer_norm = checked_bool(layer_norm, "layer_norm")
    x = trunk.outputs[0]
    if len(x.shape) == 4:
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if len(x.shape) != 2:
        raise ValueError(
            "trunk must give features of shape (batch, rows, columns, channels) or "
            f"(batch, channels); {trunk.name!r} gives {tuple(trunk.outputs[0].shape)}."
        )
    if layer_norm:
        x = ParameterFreeLayerNormalization(name="layer_norm")(x)
    if x.shape[-1] != dim:
        x = keras.layers.Dense(
            dim,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(
                1 / 3, mode="fan_in", distribution="uniform"
            ),
            name="linear_map",
        )(x)
    x = L2Normalization(name="embedding")(x)
    return keras.Model(trunk.inputs[0], x, name="embedding_model")
