import json
import zipfile

import keras
import numpy as np
import pytest

from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import dtype_name
from keras_dml._ops import ops
from keras_dml._ops import weight_name
from keras_dml.layers import NormalizedSoftmax
from keras_dml.layers import Proxies
from keras_dml.layers import l2_normalize
from tests.gradients import gradients
from tests.layers.check_layer import check_layer


def proxies_with(values, dtype="float32"):
    """A built layer that holds these proxies."""
    layer = Proxies(len(values), dtype=dtype)
    layer.build((None, values.shape[1]))
    layer.set_weights([values])
    return layer


def test_does_what_a_layer_must(tmp_path):
    check_layer(Proxies, {"num_classes": 7}, 6, 7, True, tmp_path)


def test_gives_cosines(dtype, tolerance):
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(4, 3)), rng.normal(size=(6, 3))
    cosines = proxies_with(p, dtype)(x.astype(dtype))
    assert dtype_name(cosines.dtype) == dtype
    expected = [[a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for b in p] for a in x]
    cosines = ops.convert_to_numpy(cosines)
    np.testing.assert_allclose(cosines, expected, tolerance, tolerance)


def test_zero_vectors_give_zeros_and_finite_gradients():
    p = np.array([[0.0, 0.0], [1.0, 2.0]], np.float32)
    x = np.array([[0.0, 0.0], [3.0, 1.0]], np.float32)
    layer = proxies_with(p)
    cosines = ops.convert_to_numpy(layer(x))
    assert cosines[0, 0] == cosines[0, 1] == cosines[1, 0] == 0
    found = gradients(layer, ops.sum, x)
    assert all(np.isfinite(gradient).all() for gradient in found)


def test_class_weights_start_uniform_within_one_over_root_dim():
    layer = Proxies(500)
    layer.build((None, 16))
    assert [weight_name(weight) for weight in layer.weights] == ["class_weights"]
    (weights,) = layer.get_weights()
    counts, _ = np.histogram(weights, 10, (-0.25, 0.25))
    np.testing.assert_allclose(counts / weights.size, 0.1, atol=0.015)


@pytest.mark.parametrize("options", [None, {}, {"sampled_classes": 9, "seed": 1}])
def test_a_seed_gives_the_class_weights_that_it_gave_in_version_0_1(options):
    if options and IS_KERAS_2:
        pytest.skip("classes are drawn on Keras 3")
    keras.utils.set_random_seed(0)
    layer = Proxies(500) if options is None else NormalizedSoftmax(500, **options)
    layer.build((None, 17))
    found = ops.convert_to_numpy(layer.class_weights)
    keras.utils.set_random_seed(0)
    drawn = keras.initializers.RandomUniform(-(17**-0.5), 17**-0.5)((500, 17))
    np.testing.assert_array_equal(found, ops.convert_to_numpy(drawn))


@pytest.mark.parametrize("layer_class", [Proxies, NormalizedSoftmax])
def test_initializer_regularizer_and_constraint_are_those_of_keras_layers(layer_class):
    layer = layer_class(
        3,
        class_weights_initializer="ones",
        class_weights_regularizer=keras.regularizers.L2(0.5),
        class_weights_constraint=keras.constraints.UnitNorm(axis=1),
    )
    config = json.loads(json.dumps(layer.get_config()))
    for each in (layer, layer_class.from_config(config)):
        x = np.ones((2, 4), np.float32)
        model = keras.Sequential([keras.Input((4,)), each])
        np.testing.assert_array_equal(each.get_weights()[0], np.ones((3, 4)))
        (penalty,) = model.losses
        assert float(penalty) == 0.5 * 12
        model.compile("sgd", "mse")
        model.fit(x, np.zeros((2, 3)), verbose=0)
        lengths = np.linalg.norm(each.get_weights()[0], axis=1)
        np.testing.assert_allclose(lengths, 1, 1e-5)
        assert each.get_config() == layer.get_config()


@pytest.mark.parametrize("layer_class", [Proxies, NormalizedSoftmax])
def test_output_shape_is_known_before_the_layer_is_built(layer_class):
    assert layer_class(5).compute_output_shape((None, 8)) == (None, 5)
    assert layer_class(5).compute_output_shape((7, 8)) == (7, 5)


class OldProxies(keras.layers.Layer):
    """The layer's weights and configuration as version 0.1 had them."""

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def build(self, input_shape):
        shape = (self.num_classes, input_shape[-1])
        self.proxies = self.add_weight(shape=shape, name="proxies")
        self.built = True

    def call(self, embeddings):
        directions = ops.transpose(l2_normalize(self.proxies))
        return l2_normalize(embeddings) @ directions

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


# By the class's name Keras finds the weights in a file.
OldProxies.__name__ = "Proxies"


def test_files_of_version_0_1_still_load(tmp_path):
    def model_with(layer_class):
        return keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(4), layer_class(5)]
        )

    old, new = model_with(OldProxies), model_with(Proxies)
    x = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    expected = old.predict(x, verbose=0)
    assert np.abs(new.predict(x, verbose=0) - expected).max() > 0.01

    old.save_weights(tmp_path / "old.weights.h5")
    new.load_weights(tmp_path / "old.weights.h5")
    np.testing.assert_array_equal(new.predict(x, verbose=0), expected)

    old.save(tmp_path / "old.keras")
    with zipfile.ZipFile(tmp_path / "old.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    layer = config["config"]["layers"][-1]
    assert layer["class_name"] == "Proxies"
    assert "class_weights_initializer" not in layer["config"]
    layer["module"], layer["registered_name"] = None, "keras_dml>Proxies"
    members["config.json"] = json.dumps(config)
    with zipfile.ZipFile(tmp_path / "renamed.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    loaded = keras.saving.load_model(tmp_path / "renamed.keras")
    assert type(loaded.layers[-1]) is Proxies
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)


@pytest.mark.parametrize("num_classes", [0, 2.0, None])
def test_wrong_num_classes_is_refused(num_classes):
    with pytest.raises(ValueError, match=f"num_classes must .* got {num_classes!r}"):
        Proxies(num_classes)


@pytest.mark.parametrize("shape", [(2, 3, 4), (4,)])
def test_input_that_is_not_batch_by_dim_is_refused(shape):
    with pytest.raises(ValueError, match=r"shape \(batch, dim\).*got shape \([234]"):
        Proxies(5)(np.zeros(shape, np.float32))
