"""The model that turns images into unit vectors."""

import itertools
import sys
from collections.abc import Collection

import keras

from keras_dml._checks import checked_bool
from keras_dml._checks import checked_choice
from keras_dml._checks import checked_integer
from keras_dml._ops import Tensor
from keras_dml._ops import ops
from keras_dml.layers import GeneralizedMeanPooling
from keras_dml.layers import L2Normalization
from keras_dml.layers import ParameterFreeLayerNormalization
from keras_dml.models._trunks.hub import backbone_features
from keras_dml.models._trunks.hub import is_image_backbone
from keras_dml.models._trunks.hub import pixel_scaling


def embedding_model(
    trunk: keras.Model,
    dim: int,
    layer_norm: bool = True,
    pooling: str = "avg",
    image_converter: keras.layers.Layer | None = None,
) -> keras.Model:
    """Puts the paper's embedding head on a trunk.

    Global average pool, parameter-free layer normalization, a linear map without
    bias to `dim` numbers, and L2 normalization. The linear map is left out where
    `dim` equals the trunk's width. It starts from U(-1/√width, 1/√width), as
    PyTorch's linear layer does. The layers are called "pool", "layer_norm",
    "linear_map" and "embedding", with a number where the trunk has such a layer.

    Args:
        trunk: a model from images to (batch, rows, columns, channels) features, to
            (batch, tokens, channels), or to (batch, channels) already pooled. Its
            weights are shared, not copied. It may be a KerasHub `Backbone` for images,
            of which the last stage counts where it gives several.
        dim: numbers in an embedding, at least 1.
        layer_norm: whether to have the layer normalization; False is for ablations.
        pooling: "avg", the average over all positions, or all tokens, the class token
            among them; "max", their maximum; "gem", `GeneralizedMeanPooling`; or
            "token", the first token, which is the class token of those vision
            transformers that have one. Tokens that the trunk masks, as those of
            padding, are left out of the first three. Features that are pooled already
            take "avg" alone.
        image_converter: a layer from RGB pixels, 0 to 255, to what the trunk takes,
            which becomes a layer in front of it. A KerasHub `Backbone` needs one. Of a
            `keras_hub.layers.ImageConverter` the scale and the offset are applied, in
            float32, and not the resizing, as images already have their size. None for
            a trunk that takes pixels, such as `keras_dml.models.trunk` gives.

    Returns:
        A model from the trunk's input, or from images of that shape with an
        image_converter, to (batch, dim) float32 unit vectors.

    Raises:
        ValueError: if an argument is out of range, the trunk is no functional model of
            one input and one output, its output has another shape or can't be pooled
            so, or it is a KerasHub `Backbone` without image_converter, or not for
            images.

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
    pooling = checked_choice(pooling, "pooling", ("avg", "max", "gem", "token"))
    _check_trunk(trunk, image_converter)
    if image_converter is None:
        images, features = trunk.inputs[0], trunk.outputs[0]
    else:
        images, features = _converted(trunk, image_converter)
    below = keras.Model(images, features)
    used = {one.name for one in getattr(below, "operations", below.layers)}
    x = _pooled(features, pooling, _unused_name("pool", used), trunk.name)
    if layer_norm:
        x = ParameterFreeLayerNormalization(name=_unused_name("layer_norm", used))(x)
    if x.shape[-1] != dim:
        x = keras.layers.Dense(
            dim,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(
                1 / 3, mode="fan_in", distribution="uniform"
            ),
            name=_unused_name("linear_map", used),
        )(x)
    x = L2Normalization(name=_unused_name("embedding", used))(x)
    return keras.Model(images, x, name="embedding_model")


def _check_trunk(trunk, image_converter):
    """Raises where a trunk can't have a head, or not without an image converter."""
    if image_converter is not None and not isinstance(
        image_converter, keras.layers.Layer
    ):
        raise ValueError(
            "image_converter must be a Keras layer from pixels to what the trunk "
            f"takes, or None; got {image_converter!r}."
        )
    # Whoever has a backbone has imported KerasHub.
    keras_hub = sys.modules.get("keras_hub")
    if keras_hub is None or not isinstance(trunk, keras_hub.models.Backbone):
        try:
            sides = len(trunk.inputs), len(trunk.outputs)
        except (AttributeError, ValueError):  # a subclass; a Sequential without inputs
            sides = None
        if sides != (1, 1):
            raise ValueError(
                "trunk must be a functional keras.Model with one input and one output; "
                f"got {f'{sides[0]} and {sides[1]}' if sides else repr(trunk)}."
            )
        return
    kind = type(trunk).__name__
    if not is_image_backbone(trunk):
        raise ValueError(
            f"trunk is a KerasHub {kind}, which does not turn one image into features."
        )
    if image_converter is None:
        raise ValueError(
            f"trunk is a KerasHub {kind}, which does not prepare pixels itself. Give "
            "image_converter=keras_hub.layers.ImageConverter.from_preset(...) of the "
            "same preset, or a layer such as keras.layers.Rescaling(1 / 255); or take "
            'keras_dml.models.trunk("hub:…"), which has the preset\'s own.'
        )


def _converted(trunk, image_converter):
    """Gives (images, features) of a trunk behind an image converter."""
    used = {trunk.name, image_converter.name}
    images = keras.Input(
        tuple(trunk.inputs[0].shape[1:]), name=_unused_name("images", used)
    )
    keras_hub = sys.modules.get("keras_hub")
    if keras_hub and isinstance(image_converter, keras_hub.layers.ImageConverter):
        name = _unused_name("preprocessing", {trunk.name})
        image_converter = pixel_scaling(image_converter, name)
    return images, backbone_features(trunk, image_converter(images))


def _pooled(features: Tensor, pooling: str, name: str, trunk_name: str) -> Tensor:
    """Pools features of any shape that a trunk may give."""
    shape = tuple(features.shape)
    if len(shape) not in (2, 3, 4):
        raise ValueError(
            "trunk must give features of shape (batch, rows, columns, channels), "
            f"(batch, tokens, channels) or (batch, channels); {trunk_name!r} gives "
            f"{shape}."
        )
    if len(shape) == 2:
        if pooling != "avg":
            raise ValueError(
                f"pooling={pooling!r} needs features that are not pooled yet; "
                f"{trunk_name!r} gives {shape}. Leave pooling out."
            )
        return features
    if pooling == "token" and len(shape) == 4:
        raise ValueError(
            "pooling='token' needs features of shape (batch, tokens, channels); "
            f"{trunk_name!r} gives {shape}. Use 'avg', 'max' or 'gem'."
        )
    layer = {
        ("avg", 3): keras.layers.GlobalAveragePooling1D,
        ("avg", 4): keras.layers.GlobalAveragePooling2D,
        ("max", 3): _MaximumOfTokens,
        ("max", 4): keras.layers.GlobalMaxPooling2D,
        ("gem", 3): GeneralizedMeanPooling,
        ("gem", 4): GeneralizedMeanPooling,
        ("token", 3): _FirstToken,
    }[pooling, len(shape)]
    return layer(name=name)(features)


@keras.saving.register_keras_serializable(package="keras_dml", name="FirstToken")
class _FirstToken(keras.layers.Layer):
    """Takes the first of the tokens; a slice would have a name that may be taken."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x):
        return x[:, 0]

    def compute_mask(self, x, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])


@keras.saving.register_keras_serializable(package="keras_dml", name="MaximumOfTokens")
class _MaximumOfTokens(_FirstToken):
    """Takes the maximum of the tokens; that of Keras heeds no mask."""

    def call(self, x, mask=None):
        if mask is not None:
            x = ops.where(ops.cast(mask, "bool")[..., None], x, float("-inf"))
        return ops.max(x, axis=1)


def _unused_name(name: str, used: Collection[str]) -> str:
    """Gives the name, with the first number after it that makes it a new one."""
    numbered = (f"{name}_{number}" for number in itertools.count(1))
    return next(one for one in itertools.chain([name], numbered) if one not in used)
