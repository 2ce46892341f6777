"""What the tests of LiteRT and of ONNX share."""

import importlib
import io

import keras
import numpy as np
from PIL import Image

from keras_dml.models import embedding_model

SIDE = 28


def embedder_of(dim, policy="float32"):
    """A small network with random weights and statistics, a part of it a model too."""
    keras.utils.set_random_seed(dim)
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, dtype=policy)(images)
    x = keras.layers.Conv2D(12, 3, strides=2, dtype=policy)(x[..., ::-1])
    inner = keras.Input(x.shape[1:], dtype=x.dtype)
    y = keras.layers.BatchNormalization(dtype=policy)(inner)
    y = keras.layers.Dropout(0.5, dtype=policy)(keras.layers.ReLU(dtype=policy)(y))
    x = keras.Model(inner, y)(x)
    embedder = embedding_model(keras.Model(images, x), dim)
    rng = np.random.default_rng(0)
    for weight in embedder.weights:
        if "moving" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return embedder


def photographs(count, side=SIDE):
    """JPEG files of smooth noise, decoded: (count, side, side, 3) float32."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (5, 5, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        stream = io.BytesIO()
        picture.save(stream, "JPEG")
        images.append(np.asarray(Image.open(stream)))
    return np.array(images, np.float32)


def assert_same(outputs, embeddings):
    """Within 1e-4 of Keras, and the same bits but for dimensions near 0."""
    embedding, code = outputs["embedding"], outputs["code"]
    assert (embedding.dtype, code.dtype) == (np.float32, np.uint8)
    np.testing.assert_allclose(embedding, embeddings, rtol=0, atol=1e-4)
    assert np.std(embeddings) > 0.01
    bits = np.unpackbits(code, axis=1)
    dim = embeddings.shape[1]
    away = np.abs(embeddings) > 1e-4
    np.testing.assert_array_equal(bits[:, :dim][away], (embeddings > 0)[away])
    assert not bits[:, dim:].any()
    assert np.mean(away) > 0.9


class Interpreted:
    """A LiteRT model as an app runs it."""

    def __init__(self, file):
        # Not at the top, as it takes seconds.
        interpreter = importlib.import_module("ai_edge_litert.interpreter")
        self.interpreter = interpreter.Interpreter(str(file), num_threads=1)
        (self.signature,) = self.interpreter.get_signature_list().values()

    def __call__(self, images):
        return self.interpreter.get_signature_runner()(images=images)

    def operators(self):
        self.interpreter.allocate_tensors()
        # The interpreter has no public list of them.
        return {one["op_name"] for one in self.interpreter._get_ops_details()}

    def dtypes(self, shape):
        """Those of the tensors of a shape."""
        self.interpreter.allocate_tensors()
        details = self.interpreter.get_tensor_details()
        return {one["dtype"] for one in details if tuple(one["shape"]) == shape}


class Session:
    """An ONNX model in ONNX Runtime."""

    def __init__(self, file):
        # Not at the top, as LiteRT's tests run without it.
        onnxruntime = importlib.import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options)

    def __call__(self, images):
        names = [output.name for output in self.session.get_outputs()]
        arrays = self.session.run(names, {"images": images})
        return dict(zip(names, arrays, strict=True))
