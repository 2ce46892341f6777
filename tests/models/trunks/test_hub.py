import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_dml._ops import ops
from keras_dml.models import embedding_model
from keras_dml.models import trunk
from keras_dml.models._trunks.hub import hub_trunk

keras_hub = pytest.importorskip("keras_hub", reason="keras-hub is not installed")

SHAPE = (32, 32, 3)
SCALE, OFFSET = [0.02, 0.013, 0.01], [-1.0, -2.0, -3.0]


def resnet(stacks=2):
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64] * stacks,
        stackwise_num_blocks=[1] * stacks,
        stackwise_num_strides=[1] + [2] * (stacks - 1),
        block_type="basic_block",
    )


def vit():
    return keras_hub.models.ViTBackbone(
        image_shape=SHAPE,
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
    )


def dinov2():
    return keras_hub.models.DINOV2Backbone(
        image_shape=SHAPE,
        position_embedding_shape=SHAPE,
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
    )


def dinov3():
    return keras_hub.models.DINOV3Backbone(
        image_shape=SHAPE,
        patch_size=8,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
    )


def swin():
    return keras_hub.models.SwinTransformerBackbone(
        image_shape=SHAPE,
        patch_size=4,
        embed_dim=8,
        depths=(1, 1),
        num_heads=(1, 2),
        window_size=4,
    )


CONVERTERS = {
    resnet: "ResNetImageConverter",
    vit: "ViTImageConverter",
    dinov2: "DINOV2ImageConverter",
    dinov3: "DINOV3ImageConverter",
    swin: "SwinTransformerImageConverter",
}


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Folders of miniature presets, each written at most once."""
    root = tmp_path_factory.mktemp("presets")

    def preset(build, scale=SCALE, offset=OFFSET):
        folder = root / f"{build.__name__}-{scale}-{offset}"
        if not folder.is_dir():
            keras.utils.set_random_seed(0)
            backbone = build()
            # Batch norms and biases as after a training.
            rng = np.random.default_rng(0)
            backbone.set_weights(
                [
                    value + rng.uniform(0, 0.1, value.shape)
                    for value in backbone.get_weights()
                ]
            )
            backbone.save_to_preset(folder)
            converter = getattr(keras_hub.layers, CONVERTERS[build])
            # The size is another one, to show that it is not used.
            converter(image_size=(40, 40), scale=scale, offset=offset).save_to_preset(
                folder
            )
        return str(folder)

    return preset


@pytest.fixture
def images():
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (2, *SHAPE)).astype("float32")


def by_keras_hub(folder, images):
    """Features by the preset's own converter, size left alone, and backbone."""
    converter = keras_hub.layers.ImageConverter.from_preset(folder, image_size=None)
    backbone = keras_hub.models.Backbone.from_preset(folder)
    pixels = ops.convert_to_numpy(converter(images))
    if isinstance(backbone.input, dict):
        pixels = dict.fromkeys(backbone.input, pixels)
    return backbone.predict(pixels, verbose=0)


def test_feature_maps_are_those_of_the_presets_own_preprocessing(presets, images):
    trunk = hub_trunk(presets(resnet), SHAPE, pretrained=True)
    assert trunk.input_shape == (None, *SHAPE)
    expected = by_keras_hub(presets(resnet), images)
    assert trunk.output_shape == (None, *expected.shape[1:])
    found = trunk.predict(images, verbose=0)
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [vit, dinov2, dinov3])
def test_transformer_gives_its_class_token(presets, images, build):
    found = hub_trunk(presets(build), SHAPE, pretrained=True).predict(images, verbose=0)
    expected = by_keras_hub(presets(build), images)[:, 0]
    assert expected.shape == (2, 16)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_transformer_without_class_token_gives_the_mean_of_its_tokens(presets, images):
    found = hub_trunk(presets(swin), SHAPE, pretrained=True).predict(images, verbose=0)
    expected = by_keras_hub(presets(swin), images).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_pooling_of_the_presets_own_classifier_is_kept(tmp_path, images):
    converter = keras_hub.layers.ViTImageConverter(image_size=(32, 32), scale=1 / 255)
    classifier = keras_hub.models.ViTImageClassifier(
        vit(),
        num_classes=3,
        pooling="gap",
        preprocessor=keras_hub.models.ViTImageClassifierPreprocessor(converter),
    )
    classifier.save_to_preset(str(tmp_path))
    found = hub_trunk(str(tmp_path), SHAPE, pretrained=True).predict(images, verbose=0)
    expected = by_keras_hub(str(tmp_path), images).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1 / 127.5, -1.0), (1 / 255, None), (None, None), (None, OFFSET)],
)
def test_scale_and_offset_may_be_single_numbers_or_absent(
    presets, images, scale, offset
):
    folder = presets(resnet, scale, offset)
    trunk = hub_trunk(folder, SHAPE, pretrained=True)
    layer = trunk.get_layer("preprocessing")
    expected = images * (1 if scale is None else scale) + (
        0 if offset is None else np.array(offset)
    )
    found = ops.convert_to_numpy(layer(images))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_preprocessing_stays_in_float32_under_mixed_precision(presets, images):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        trunk = hub_trunk(presets(resnet), SHAPE, pretrained=True)
    finally:
        keras.mixed_precision.set_global_policy(before)
    found = ops.convert_to_numpy(trunk.get_layer("preprocessing")(images))
    np.testing.assert_allclose(found, images * SCALE + OFFSET, 1e-5, 1e-6)
    assert trunk.output.dtype == "bfloat16"


def test_weights_are_random_where_none_are_wanted(presets):
    first, second = (
        hub_trunk(presets(resnet), SHAPE, pretrained=False).get_weights()
        for _ in range(2)
    )
    loaded = hub_trunk(presets(resnet), SHAPE, pretrained=True).get_weights()
    assert [value.shape for value in first] == [value.shape for value in loaded]
    assert not np.allclose(first[0], loaded[0])
    assert not np.allclose(first[0], second[0])


def test_convolutional_trunk_takes_any_size(presets):
    trunk = hub_trunk(presets(resnet), (64, 48, 3), pretrained=True)
    assert trunk.input_shape == (None, 64, 48, 3)
    assert None not in trunk.output_shape[1:]


def test_position_embeddings_that_adapt_take_another_size(presets):
    trunk = hub_trunk(presets(dinov2), (48, 48, 3), pretrained=True)
    assert trunk.input_shape == (None, 48, 48, 3)
    assert trunk.output_shape == (None, 16)


def test_other_size_than_the_weights_are_for_is_refused_with_theirs(presets):
    message = r"takes images of 32×32 pixels.*48×48.*input_shape=\(32, 32, 3\)"
    with pytest.raises(ValueError, match=message):
        hub_trunk(presets(vit), (48, 48, 3), pretrained=True)
    random = hub_trunk(presets(vit), (48, 48, 3), pretrained=False)
    assert random.input_shape == (None, 48, 48, 3)


@pytest.mark.slow
def test_saved_embedders_load_in_a_new_process(presets, images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    models = []
    for number, build in enumerate((resnet, vit, dinov2)):
        trunk = hub_trunk(presets(build), SHAPE, pretrained=True)
        models.append(embedding_model(trunk, 8))
        models[-1].save(tmp_path / f"{number}.keras")
    code = """
import keras, numpy as np, keras_dml.models
images = np.load("images.npy")
for number in range(3):
    model = keras.models.load_model(f"{number}.keras")
    np.save(f"{number}.npy", model.predict(images, verbose=0))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    for number, model in enumerate(models):
        found = np.load(tmp_path / f"{number}.npy")
        np.testing.assert_allclose(found, model.predict(images, verbose=0), atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, 1e-5)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModel")
def test_exported_embedder_is_served_without_keras_hub(presets, images, tmp_path):
    from keras_dml import serving

    model = embedding_model(hub_trunk(presets(vit), SHAPE, pretrained=True), 8)
    serving.export(model, tmp_path / "1", resize=40)
    np.save(tmp_path / "images.npy", images)
    code = """
import sys
sys.modules.update(keras=None, keras_hub=None, keras_dml=None)
import numpy as np, tensorflow as tf
served = tf.saved_model.load("1").signatures["images"]
np.save("found.npy", served(images=tf.constant(np.load("images.npy")))["embedding"])
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    found = np.load(tmp_path / "found.npy")
    np.testing.assert_allclose(found, model.predict(images, verbose=0), atol=1e-5)


@pytest.mark.parametrize("weights", ["preset", "imagenet"])
def test_trunk_builds_it_by_name_with_its_weights(presets, images, weights):
    found = trunk(f"hub:{presets(resnet)}", SHAPE, weights)
    expected = hub_trunk(presets(resnet), SHAPE, pretrained=True)
    np.testing.assert_array_equal(
        found.predict(images, verbose=0), expected.predict(images, verbose=0)
    )


def test_trunk_takes_random_weights_and_a_file_of_its_own(presets, images, tmp_path):
    first = trunk(f"hub:{presets(resnet)}", SHAPE)
    pretrained = hub_trunk(presets(resnet), SHAPE, pretrained=True)
    assert not np.allclose(first.get_weights()[0], pretrained.get_weights()[0])
    first.save_weights(tmp_path / "trunk.weights.h5")
    second = trunk(f"hub:{presets(resnet)}", SHAPE, str(tmp_path / "trunk.weights.h5"))
    np.testing.assert_array_equal(
        first.predict(images, verbose=0), second.predict(images, verbose=0)
    )


def test_preset_weights_are_for_presets_alone():
    with pytest.raises(FileNotFoundError, match="no file 'preset'"):
        trunk("conv4", SHAPE, "preset")


def test_missing_keras_hub_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ImportError, match=r'pip install "keras_dml\[hub\]"'):
        hub_trunk("resnet_50_imagenet", SHAPE, pretrained=True)


def test_unknown_name_is_refused_with_what_may_be_given():
    with pytest.raises(ValueError, match=r"no preset 'resnet51'.*hub:\./resnet51"):
        hub_trunk("resnet51", SHAPE, pretrained=True)


def test_folder_that_is_no_preset_is_named(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(
            FileNotFoundError, match=f"{folder.name}' is not the folder"
        ):
            hub_trunk(str(folder), SHAPE, pretrained=True)


def test_preset_that_does_not_say_how_to_prepare_pixels_is_refused(tmp_path):
    resnet().save_to_preset(str(tmp_path))
    with pytest.raises(ValueError, match="doesn't say how to prepare pixels"):
        hub_trunk(str(tmp_path), SHAPE, pretrained=True)


def test_text_model_is_refused(tmp_path):
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=5, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
    )
    backbone.save_to_preset(str(tmp_path))
    with pytest.raises(ValueError, match="not one of an image model"):
        hub_trunk(str(tmp_path), SHAPE, pretrained=True)


def test_model_of_several_feature_maps_is_refused(tmp_path):
    backbone = keras_hub.models.RetinaNetBackbone(
        image_encoder=resnet(stacks=3),
        min_level=3,
        max_level=4,
        use_p5=False,
    )
    backbone.save_to_preset(str(tmp_path))
    keras_hub.layers.RetinaNetImageConverter(scale=1.0).save_to_preset(str(tmp_path))
    with pytest.raises(ValueError, match="does not turn one image into features"):
        hub_trunk(str(tmp_path), SHAPE, pretrained=True)


def test_missing_and_damaged_weights_name_the_preset(presets, tmp_path):
    source = pathlib.Path(presets(resnet))
    for file in source.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=f"KerasHub preset '{tmp_path}'"):
        hub_trunk(str(tmp_path), SHAPE, pretrained=True)
    (tmp_path / "model.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(OSError, match=f"KerasHub preset '{tmp_path}' can't be read"):
        hub_trunk(str(tmp_path), SHAPE, pretrained=True)


def test_failed_download_is_said_with_the_way_around_it(monkeypatch):
    def fail(*arguments, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(keras_hub.layers.ImageConverter, "from_preset", fail)
    with pytest.raises(OSError, match=r"can't be downloaded \(no route.*hub:\./folder"):
        hub_trunk("resnet_50_imagenet", SHAPE, pretrained=True)


def test_code_in_a_preset_is_not_run(presets, tmp_path):
    source = pathlib.Path(presets(resnet))
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    hostile = keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: x))
    hostile["config"].update(image_size=None, scale=1.0)
    (tmp_path / "image_converter.json").write_text(json.dumps(hostile))
    with pytest.raises(ValueError, match="`function` is a Python lambda"):
        hub_trunk(str(tmp_path), SHAPE, pretrained=True)
