"""Exports an embedding model as ONNX."""

import os
import pathlib
import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_dml._files import atomic_file
from keras_dml._files import check_writable_file
from keras_dml._ops import import_extra
from keras_dml.serving._embedder_with_code import embedder_with_code


def export_onnx(embedder: keras.Model, file: str | os.PathLike) -> None:
    """Writes an ONNX model of the standard operators, in float32.

    It takes `images`, (batch, side, side, 3) float32 RGB pixels from 0 to 255, already
    resized and cropped, and gives `embedding` and `code` as the signature `images` of
    `export` does. A model in mixed precision is written in float32.

    Args:
        embedder: a model from (batch, side, side, 3) pixels to (batch, dim).
        file: path of the file; one there is replaced.

    Raises:
        ImportError: if tf2onnx is not installed: the extra `onnx`.
        OSError: if the file cannot be written.
        ValueError: if ONNX has no operator for something in the model, the model holds
            tensors that are neither weights nor arrays, does not take square images of
            a fixed size, or does not give embeddings, or Keras is Keras 2, or runs on
            another backend than TensorFlow.

    Example:
        >>> export_onnx(embedder, "embedding.onnx")
    """
    model = embedder_with_code(embedder, "an ONNX model")
    import_extra("tf2onnx", "export_onnx", "onnx")
    _add_erfc(import_extra("tf2onnx.handler", "export_onnx", "onnx"))
    onnx = import_extra("onnx", "export_onnx", "onnx")
    file = pathlib.Path(file)
    check_writable_file(file, "file")
    with atomic_file(file) as unfinished:
        with warnings.catch_warnings():
            # Keras looks whether NumPy has names that tf2onnx used.
            warnings.simplefilter("ignore", FutureWarning)
            # Keras finds it only in a model that has been called.
            images = tf.TensorSpec(model.input_shape, tf.float32, name="images")
            model.export(
                str(unfinished), format="onnx", verbose=False, input_signature=[images]
            )
        # What it can't convert stays in the file under TensorFlow's name.
        graph = onnx.load(unfinished).graph
        unknown = {
            node.op_type
            for node in graph.node
            if not onnx.defs.has(node.op_type, node.domain)
        }
        if unknown:
            raise ValueError(
                f"ONNX has no operator for {', '.join(sorted(unknown))}, which "
                f"{embedder.name!r} uses."
            )
        constants = [one.name for one in graph.input if one.name != "images"]
        if constants:
            raise ValueError(
                f"{embedder.name!r} holds tensors that Keras makes inputs of when it "
                f"writes ONNX: {', '.join(constants)}. Hold them as weights or as "
                "NumPy arrays."
            )


def _add_erfc(handler):
    """Has tf2onnx convert erfc(x) to 1 - erf(x): it is in TensorFlow's GELU."""

    def convert(graph, node, **_):
        of_node = {
            "shapes": [graph.get_shape(node.output[0])],
            "dtypes": [graph.get_dtype(node.output[0])],
        }
        graph.remove_node(node.name)
        erf = graph.make_node("Erf", node.input, **of_node)
        one = graph.make_const(f"{node.name}/one", np.array(1, np.float32))
        graph.make_node(
            "Sub",
            [one.output[0], erf.output[0]],
            outputs=node.output,
            name=node.name,
            **of_node,
        )

    # ONNX has erf since its version 9; "" is the domain of its own operators.
    handler.tf_op.register_handler(convert, 9, ["Erfc"], "", {})
