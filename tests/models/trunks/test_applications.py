import keras
import numpy as np
import pytest

from keras_dml.models import PixelPreprocessing
from keras_dml.models import embedding_model
from keras_dml.models import trunk
from keras_dml.models._trunks.applications import APPLICATIONS
from tests.models.lively_trunk import lively_trunk


def pixels(side):
    """Two images of noise."""
    rng = np.random.default_rng(0)
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

    for one, (application, family) in list(APPLICATIONS.items()):
        replaced = constructor_of(application.__name__), family
        monkeypatch.setitem(APPLICATIONS, one, replaced)
    return trunk(name, (40, 40, 3)), called


@pytest.mark.parametrize("name", sorted(APPLICATIONS.keys() - {"resnet50"}))
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
        ("resnet101", "resnet"),
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


@pytest.mark.slow
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
