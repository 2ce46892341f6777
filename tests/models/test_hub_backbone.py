"""A KerasHub backbone of one's own as the trunk of an embedding model."""

import keras
import numpy as np
import pytest

from keras_dml._ops import ops
from keras_dml.models import embedding_model

keras_hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed")

SHAPE = (32, 32, 3)
SCALE, OFFSET = [0.02, 0.013, 0.01], [-1.0, -2.0, -3.0]


def vit(**options):
    return keras_hub.models.ViTBackbone(
        image_shape=SHAPE,
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        **options,
    )


def dinov2(**options):
    """A backbone that takes a dictionary."""
    return keras_hub.models.DINOV2Backbone(
        image_shape=SHAPE,
        position_embedding_shape=SHAPE,
        patch_size=8,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        **options,
    )


def resnet(**options):
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=SHAPE,
        **options,
    )


def converter(image_size=None, scale=SCALE, offset=OFFSET):
    return keras_hub.layers.ImageConverter(image_size, scale, offset)


@pytest.fixture
def images():
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (3, *SHAPE)).astype("float32")


def expected_embeddings(backbone, images, pool):
    """Embeddings by KerasHub's own converter and backbone, and a head in NumPy."""
    pixels = ops.convert_to_numpy(converter()(images))
    if isinstance(backbone.input, dict):
        pixels = dict.fromkeys(backbone.input, pixels)
    features = ops.convert_to_numpy(backbone(pixels)).astype("float64")
    x = pool(features.reshape(len(images), -1, features.shape[-1]))
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("build", "pooling", "pool"),
    [
        (vit, "token", lambda x: x[:, 0]),
        (vit, "avg", lambda x: x.mean(1)),
        (dinov2, "max", lambda x: x.max(1)),
        (resnet, "gem", lambda x: (np.maximum(x, 1e-6) ** 3).mean(1) ** (1 / 3)),
    ],
)
def test_embeddings_are_those_of_kerashubs_own_converter_and_backbone(
    build, pooling, pool, images
):
    # A name of the head's, and an image size that is not used.
    backbone = build(name="embedding")
    dim = 64 if build is resnet else 16
    model = embedding_model(
        backbone, dim, pooling=pooling, image_converter=converter((40, 40))
    )
    assert model.input_shape == (None, *SHAPE)
    found = model.predict(images, verbose=0)
    expected = expected_embeddings(backbone, images, pool)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_any_layer_may_prepare_the_pixels(images):
    backbone = vit()
    layer = keras.layers.Rescaling(SCALE, OFFSET)
    found = embedding_model(backbone, 16, pooling="token", image_converter=layer)
    expected = expected_embeddings(backbone, images, lambda x: x[:, 0])
    np.testing.assert_allclose(found.predict(images, verbose=0), expected, atol=2e-4)


def test_pixels_are_prepared_in_float32_under_mixed_precision(images):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = embedding_model(vit(), 8, image_converter=converter())
    finally:
        keras.mixed_precision.set_global_policy(before)
    prepared = ops.convert_to_numpy(model.get_layer("preprocessing")(images))
    np.testing.assert_allclose(prepared, images * SCALE + OFFSET, 1e-5, 1e-5)
    assert model.get_layer("pool").output.dtype == "bfloat16"
    assert model.output.dtype == "float32"


def test_saved_embedder_gives_equal_embeddings(images, tmp_path):
    model = embedding_model(vit(), 8, pooling="token", image_converter=converter())
    model.save(tmp_path / "embedder.keras")
    loaded = keras.saving.load_model(tmp_path / "embedder.keras")
    found = loaded.predict(images, verbose=0)
    np.testing.assert_array_equal(found, model.predict(images, verbose=0))


def test_backbone_without_image_converter_is_refused_with_all_remedies():
    message = (
        r"KerasHub ViTBackbone, .*keras_hub\.layers\.ImageConverter\.from_preset\(.*"
        r'keras\.layers\.Rescaling.*keras_dml\.models\.trunk\("hub:'
    )
    with pytest.raises(ValueError, match=message):
        embedding_model(vit(), 8)


def test_backbone_for_texts_is_refused():
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=5, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
    )
    with pytest.raises(ValueError, match="BertBackbone, which does not turn one image"):
        embedding_model(backbone, 8, image_converter=converter())
