import os
import sys

import keras
import pytest
import tensorflow as tf

from keras_dml.models import embedding_model
from keras_dml.models import trunk
from keras_dml.serving import export_onnx
from tests.serving.other_formats import SIDE
from tests.serving.other_formats import Session
from tests.serving.other_formats import assert_same
from tests.serving.other_formats import embedder_of
from tests.serving.other_formats import photographs

pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")


@pytest.mark.parametrize("dim", [16, 11])
def test_gives_what_keras_gives_for_batches_of_any_size(tmp_path, dim):
    embedder = embedder_of(dim)
    export_onnx(embedder, tmp_path / "embedding.onnx")
    assert os.listdir(tmp_path) == ["embedding.onnx"]
    model = Session(tmp_path / "embedding.onnx")
    assert [one.name for one in model.session.get_inputs()] == ["images"]
    for count in (8, 1, 3):
        images = photographs(count)
        assert_same(model(images), embedder.predict(images, verbose=0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50", "bn_inception"])
def test_trunks_give_what_keras_gives(tmp_path, name):
    keras.utils.set_random_seed(0)
    embedder = embedding_model(trunk(name, input_shape=(96, 96, 3)), 64)
    export_onnx(embedder, tmp_path / "embedding.onnx")
    images = photographs(4, 96)
    model = Session(tmp_path / "embedding.onnx")
    assert_same(model(images), embedder.predict(images, verbose=0))


def test_model_in_mixed_precision_is_written_in_float32(tmp_path):
    embedder = embedder_of(16, "mixed_float16")
    export_onnx(embedder, tmp_path / "embedding.onnx")
    images = photographs(8)
    in_float32 = embedder_of(16)
    in_float32.set_weights(embedder.get_weights())
    expected = in_float32.predict(images, verbose=0)
    assert_same(Session(tmp_path / "embedding.onnx")(images), expected)


def test_gelu_of_a_transformer_gives_what_keras_gives(tmp_path):
    keras.utils.set_random_seed(0)
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Dense(32, "gelu")(keras.layers.Rescaling(1 / 64, -2)(images))
    x = keras.layers.GlobalAveragePooling2D()(keras.activations.gelu(x))
    embedder = embedding_model(keras.Model(images, x), 16)
    export_onnx(embedder, tmp_path / "embedding.onnx")
    pixels = photographs(5)
    expected = embedder.predict(pixels, verbose=0)
    assert_same(Session(tmp_path / "embedding.onnx")(pixels), expected)


class LogGamma(keras.layers.Layer):
    """An operator that ONNX does not have."""

    def call(self, x):
        return tf.math.lgamma(x + 1)

    def compute_output_shape(self, shape):
        return shape


def test_what_onnx_has_no_operator_for_is_named(tmp_path):
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.GlobalAveragePooling2D()(LogGamma()(images))
    embedder = keras.Model(images, x, name="odd")
    with pytest.raises(ValueError, match="no operator for Lgamma, which 'odd' uses"):
        export_onnx(embedder, tmp_path / "embedding.onnx")
    assert os.listdir(tmp_path) == []


def test_tensor_that_would_become_an_input_is_named(tmp_path):
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.GlobalAveragePooling2D()(images)
    x = x * keras.ops.convert_to_tensor([1.0, 2.0, 3.0])
    embedder = keras.Model(images, x, name="odd")
    with pytest.raises(ValueError, match="'odd' holds tensors that Keras makes inputs"):
        export_onnx(embedder, tmp_path / "embedding.onnx")
    assert os.listdir(tmp_path) == []


def test_missing_package_is_named_with_the_pip_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r'pip install "keras_dml\[onnx\]"'):
        export_onnx(embedder_of(16), tmp_path / "embedding.onnx")
    assert os.listdir(tmp_path) == []
