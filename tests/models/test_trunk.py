import gc
import inspect
import re

import keras
import numpy as np
import pytest

from keras_dml.models import TRUNKS
from keras_dml.models import PixelPreprocessing
from keras_dml.models import embedding_model
from keras_dml.models import trunk
from tests.models.lively_trunk import lively_trunk


def pixels(side, seed=0):
    """Two images of noise."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (2, side, side, 3)).astype("float32")


def family_of(model):
    """The family whose preprocessing is in a trunk."""
    (layer,) = [one for one in model.layers if isinstance(one, PixelPreprocessing)]
    return layer.family


def without_building(monkeypatch, name):
    """A trunk whose application does nothing, and which of them was called."""
    called = []

    def constructor_of(application):
        def constructor(include_top, weights, input_shape):
            called.append((application, include_top, weights, input_shape))
            return keras.layers.Identity()

        return constructor

    # `trunk` is a function too, which hides the module of its name.
    applications = inspect.getmodule(trunk)._APPLICATIONS
    for one, (application, family) in list(applications.items()):
        replaced = constructor_of(application.__name__), family
        monkeypatch.setitem(applications, one, replaced)
    return trunk(name, (40, 40, 3)), called


def test_trunks_are_conv4_and_every_model_of_keras_applications():
    constructors = [
        name
        for name, value in vars(keras.applications).items()
        if inspect.isfunction(value)
    ]
    assert len(constructors) > 30
    assert sorted(TRUNKS) == sorted(["conv4", *map(str.lower, constructors)])
    assert len(set(TRUNKS)) == len(TRUNKS)


@pytest.mark.parametrize("name", TRUNKS[1:])
def test_preprocessing_is_the_family_that_has_the_model(name, monkeypatch):
    model, called = without_building(monkeypatch, name)
    ((application, *arguments),) = called
    assert application.lower() == name
    assert arguments == [False, None, (40, 40, 3)]
    family = family_of(model)
    if name.startswith("mobilenetv3"):
        assert family == "mobilenet_v3"
    else:
        assert hasattr(getattr(keras.applications, family), application)
        assert family != "imagenet_utils"


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("resnet50", "resnet"),
        ("resnet50v2", "resnet_v2"),
        ("vgg16", "vgg16"),
        ("mobilenetv2", "mobilenet_v2"),
        ("mobilenetv3small", "mobilenet_v3"),
        ("efficientnetb0", "efficientnet"),
        ("efficientnetv2b0", "efficientnet_v2"),
        ("inceptionv3", "inception_v3"),
        ("inceptionresnetv2", "inception_resnet_v2"),
        ("convnexttiny", "convnext"),
        ("densenet121", "densenet"),
        ("nasnetmobile", "nasnet"),
        ("xception", "xception"),
    ],
)
def test_preprocessing_is_the_one_that_goes_with_the_weights(name, family, monkeypatch):
    assert family_of(without_building(monkeypatch, name)[0]) == family


def test_application_from_pixels_to_saved_embeddings(tmp_path):
    model = lively_trunk("mobilenet", (64, 64, 3))
    assert model.name == "mobilenet"
    assert model.input_shape == (None, 64, 64, 3)
    assert model.output_shape == (None, 2, 2, 1024)
    (bare,) = [one for one in model.layers if isinstance(one, keras.Model)]
    assert bare.count_params() == model.count_params()
    preprocessed = keras.applications.mobilenet.preprocess_input(pixels(64))
    np.testing.assert_allclose(
        model.predict(pixels(64), verbose=0),
        bare.predict(preprocessed, verbose=0),
        1e-4,
        1e-4,
    )
    embedder = embedding_model(model, 8)
    embedder.save(tmp_path / "embedder.keras")
    loaded = keras.saving.load_model(tmp_path / "embedder.keras")
    found = loaded.predict(pixels(64), verbose=0)
    np.testing.assert_array_equal(found, embedder.predict(pixels(64), verbose=0))
    assert np.abs(found[0] - found[1]).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, 1e-5)


@pytest.mark.parametrize("name", ["conv4", "mobilenetv3small"])
def test_weights_file_is_read_back(name, tmp_path):
    keras.utils.set_random_seed(0)
    saved = trunk(name, (32, 32, 3))
    saved.set_weights(
        [weight + 0.01 * i for i, weight in enumerate(saved.get_weights())]
    )
    file = tmp_path / "trunk.weights.h5"
    saved.save_weights(file)
    loaded = trunk(name, (32, 32, 3), weights=str(file))
    for found, expected in zip(loaded.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert loaded.predict(pixels(32), verbose=0).shape[0] == 2


def test_random_weights_differ_between_trunks():
    first, second = (trunk("conv4", (16, 16, 3)).get_weights()[0] for _ in range(2))
    assert (first != second).any()


def test_missing_weights_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"no file 'nowhere\.weights\.h5'"):
        trunk("conv4", (28, 28, 3), weights="nowhere.weights.h5")


def test_imagenet_weights_of_conv4_are_refused():
    with pytest.raises(ValueError, match="conv4 has no ImageNet weights"):
        trunk("conv4", (28, 28, 3), weights="imagenet")


@pytest.mark.parametrize("name", ["ResNet50", "resnet", ""])
def test_unknown_name_is_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match=f"one of conv4.*resnet50, .*got {name!r}"):
        trunk(name)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (2, 28, 28, 3)])
def test_shape_that_is_not_of_rgb_images_is_refused(shape):
    message = re.escape(f"input_shape must be (height, width, 3); got {shape}")
    with pytest.raises(ValueError, match=message):
        trunk("conv4", shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUNKS)
def test_every_trunk_gives_finite_features(name):
    # Inception takes no less than 75×75.
    model = trunk(name, (80, 80, 3))
    features = model.predict_on_batch(pixels(80)[:1])
    assert features.shape == (1, *model.output_shape[1:])
    assert features.ndim == 4
    assert np.isfinite(features).all()
    assert features.any()
    del model
    keras.backend.clear_session()
    gc.collect()
