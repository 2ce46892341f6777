"""Exports an embedding model for LiteRT, once TensorFlow Lite."""

import os
import pathlib
import re
from typing import Any

import keras
import tensorflow as tf

from keras_dml._checks import checked_bool
from keras_dml._files import atomic_file
from keras_dml._files import check_writable_file
from keras_dml.serving._embedder_with_code import embedder_with_code


def export_litert(
    embedder: keras.Model,
    file: str | os.PathLike,
    int8_weights: bool = False,
) -> None:
    """Writes a LiteRT model of LiteRT's built-in operators alone.

    Its only signature takes `images`, (batch, side, side, 3) float32 RGB pixels from 0
    to 255, already resized and cropped. It gives `embedding` and `code` as that
    signature of `export` does. A model in mixed precision is written in float32.

    Args:
        embedder: a model from (batch, side, side, 3) pixels to (batch, dim).
        file: path of the file, which ends in .tflite; one there is replaced.
        int8_weights: whether to keep kernels in 8 bits, in about a quarter of the
            space, and to bring what they are multiplied with to 8 bits at each run,
            LiteRT's "dynamic range". Embeddings are then near those of the Keras model
            and not the same: measure what Recall@K loses by it.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if the file's name ends otherwise, LiteRT has no operator for
            something in the model, the model does not take square images of a fixed
            size, or does not give embeddings, or Keras is Keras 2, or runs on another
            backend than TensorFlow.

    Example:
        >>> export_litert(embedder, "embedding.tflite")
    """
    file = pathlib.Path(file)
    if file.suffix != ".tflite":
        raise ValueError(f"file must end in .tflite; got {str(file)!r}.")
    model = embedder_with_code(embedder, "a LiteRT model")
    options: dict[str, Any] = {
        "target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    }
    if checked_bool(int8_weights, "int8_weights"):
        # Activations in 8 bits as well would ruin the layer normalization before the
        # linear map: its variances are too far apart for one scale.
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    check_writable_file(file, "file")
    with atomic_file(file) as unfinished:
        try:
            model.export(str(unfinished), format="litert", verbose=False, **options)
        # The converter's own class has no public name.
        except Exception as error:
            if type(error).__name__ != "ConverterError":
                raise
            names = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
            raise ValueError(
                f"LiteRT has no built-in operator for {', '.join(names)}, which "
                f"{embedder.name!r} uses."
                if names
                else f"LiteRT's converter can't convert {embedder.name!r}: {error}"
            ) from error
