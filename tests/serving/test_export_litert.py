import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dml.models import embedding_model
from keras_dml.models import trunk
from keras_dml.serving import export_litert
from keras_dml.serving import export_onnx
from tests.serving.other_formats import SIDE
from tests.serving.other_formats import Interpreted
from tests.serving.other_formats import assert_same
from tests.serving.other_formats import embedder_of
from tests.serving.other_formats import photographs

pytest.importorskip("ai_edge_litert")


@pytest.mark.parametrize("dim", [16, 11])
def test_gives_what_keras_gives_for_batches_of_any_size(tmp_path, dim):
    embedder = embedder_of(dim)
    export_litert(embedder, tmp_path / "embedding.tflite")
    assert os.listdir(tmp_path) == ["embedding.tflite"]
    model = Interpreted(tmp_path / "embedding.tflite")
    assert model.signature["inputs"] == ["images"]
    assert set(model.signature["outputs"]) == {"embedding", "code"}
    for count in (8, 1, 3):
        images = photographs(count)
        assert_same(model(images), embedder.predict(images, verbose=0))


def test_operators_are_built_in(tmp_path):
    export_litert(embedder_of(16), tmp_path / "embedding.tflite")
    operators = Interpreted(tmp_path / "embedding.tflite").operators()
    assert "CONV_2D" in operators
    # Those of TensorFlow that LiteRT would need Flex for.
    assert not [name for name in operators if name.startswith(("Flex", "CUSTOM"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_lite0",
        *(
            pytest.param(one, marks=pytest.mark.long)
            for one in ("resnet50", "bn_inception")
        ),
    ],
)
def test_trunks_give_what_keras_gives(tmp_path, name):
    keras.utils.set_random_seed(0)
    embedder = embedding_model(trunk(name, input_shape=(96, 96, 3)), 64)
    export_litert(embedder, tmp_path / "embedding.tflite")
    images = photographs(4, 96)
    model = Interpreted(tmp_path / "embedding.tflite")
    assert_same(model(images), embedder.predict(images, verbose=0))
    assert not [name for name in model.operators() if name.startswith("Flex")]


def test_model_in_mixed_precision_is_written_in_float32(tmp_path):
    embedder = embedder_of(16, "mixed_float16")
    export_litert(embedder, tmp_path / "embedding.tflite")
    images = photographs(8)
    outputs = Interpreted(tmp_path / "embedding.tflite")(images)
    in_float32 = embedder_of(16)
    in_float32.set_weights(embedder.get_weights())
    assert_same(outputs, in_float32.predict(images, verbose=0))


def test_weights_are_in_int8_where_asked_and_embeddings_near(tmp_path):
    embedder = embedder_of(512)
    images = photographs(20)
    dtypes = {}
    for int8 in (False, True):
        file = tmp_path / f"{int8}.tflite"
        export_litert(embedder, file, int8_weights=int8)
        model = Interpreted(file)
        outputs = model(images)
        dtypes[int8] = model.dtypes((512, 12))  # of the linear map's kernel
    assert dtypes == {False: {np.float32}, True: {np.int8}}
    embeddings = embedder.predict(images, verbose=0)
    cosines = np.sum(outputs["embedding"] * embeddings, axis=1)
    assert 0.995 < cosines.min() < cosines.mean() < 0.999999
    np.testing.assert_array_equal(
        outputs["code"], np.packbits(outputs["embedding"] > 0, axis=1)
    )


@pytest.mark.parametrize("write", [export_litert, export_onnx])
def test_model_that_makes_no_embeddings_of_images_is_refused(tmp_path, write):
    images = keras.Input((SIDE, SIDE, 3))
    trunk = keras.Model(images, keras.layers.Conv2D(2, 1)(images))
    with pytest.raises(ValueError, match="Export the embedding model, not its trunk"):
        write(trunk, tmp_path / "embedding.tflite")
    images = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    with pytest.raises(ValueError, match="square images of a fixed size"):
        write(keras.Model(images, pooled), tmp_path / "embedding.tflite")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("write", "written"),
    [(export_litert, "a LiteRT model"), (export_onnx, "an ONNX model")],
)
def test_other_backends_are_refused_with_the_way_out(
    tmp_path, monkeypatch, write, written
):
    embedder = embedder_of(16)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=f"{written} is not written with .*=jax: wher"):
        write(embedder, tmp_path / "embedding.tflite")
    assert os.listdir(tmp_path) == []


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"file must end in \.tflite; got"):
        export_litert(embedder_of(16), tmp_path / "embedding.lite")
    assert os.listdir(tmp_path) == []


class Determinant(keras.layers.Layer):
    """An operator that LiteRT does not have."""

    def call(self, x):
        return x * tf.linalg.det(x[:, :3, :3, 0])[:, None, None, None]

    def compute_output_shape(self, shape):
        return shape


def test_what_litert_has_no_operator_for_is_named(tmp_path):
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.GlobalAveragePooling2D()(Determinant()(images))
    embedder = keras.Model(images, x, name="odd")
    message = "no built-in operator for MatrixDeterminant, which 'odd' uses"
    with pytest.raises(ValueError, match=message):
        export_litert(embedder, tmp_path / "embedding.tflite")
    assert os.listdir(tmp_path) == []
