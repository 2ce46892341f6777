"""What `export_litert` and `export_onnx` write: an embedder that gives codes too."""

import keras
import numpy as np

from keras_dml._checks import image_side
from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import check_can_export

_OF_16_BITS = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def embedder_with_code(embedder: keras.Model, written: str) -> keras.Model:
    """Makes a float32 model with the outputs of the signature `images` of `export`.

    Args:
        embedder: a model from (batch, side, side, 3) pixels to (batch, dim), of any
            dtype policy.
        written: what is to be written, for the error message.

    Returns:
        A model from `images` to `embedding`, (batch, dim) float32, and `code`,
        (batch, ceil(dim / 8)) uint8.

    Raises:
        ValueError: if the model does not take square images of a fixed size, or does
            not give embeddings, or Keras is Keras 2, or runs on another backend than
            TensorFlow.
    """
    check_can_export(written)
    if IS_KERAS_2:
        raise ValueError(
            f"{written} is not written with Keras {keras.__version__}, but with Keras "
            '3: pip install "keras>=3.8" "tensorflow>=2.18"'
        )
    side = check_embedder(embedder)
    images = keras.Input((side, side, 3), name="images")
    embedding = _in_float32(embedder)(images, training=False)
    return keras.Model(
        images, {"embedding": embedding, "code": _packed_signs(embedding)}
    )


def check_embedder(embedder: keras.Model) -> int:
    """Checks that a model makes embeddings of images; gives the images' side."""
    side = image_side(embedder)
    if len(embedder.output_shape) != 2:
        raise ValueError(
            "embedder must give embeddings of shape (batch, dim); "
            f"{embedder.name!r} gives {embedder.output_shape}. Export the embedding "
            "model, not its trunk."
        )
    return side


def _in_float32(embedder):
    """The model, or a copy of it where it computes in 16 bits."""
    if all(layer.compute_dtype == "float32" for layer in embedder._flatten_layers()):
        return embedder
    config = _config_in_float32(keras.saving.serialize_keras_object(embedder))
    copy = keras.saving.deserialize_keras_object(config, safe_mode=False)
    copy.set_weights(embedder.get_weights())
    return copy


def _config_in_float32(config):
    """Names float32 wherever a configuration names a dtype or policy of 16 bits."""
    if isinstance(config, dict):
        return {name: _config_in_float32(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_config_in_float32(value) for value in config)
    return "float32" if config in _OF_16_BITS else config


def _packed_signs(embedding):
    """Packs one bit a dimension, as `np.packbits(embedding > 0, axis=1)` does."""
    dim = embedding.shape[-1]
    bits = keras.ops.cast(embedding > 0, "int32")
    bits = keras.ops.pad(bits, ((0, 0), (0, -dim % 8)))
    bytes_of_bits = keras.ops.reshape(bits, (-1, -(-dim // 8), 8))
    # Neither LiteRT nor ONNX sums bytes.
    place_values = np.array([128, 64, 32, 16, 8, 4, 2, 1], np.int32)
    octets = keras.ops.sum(bytes_of_bits * place_values, axis=-1)
    return keras.ops.cast(octets, "uint8")
