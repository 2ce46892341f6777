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
from keras_dml.layers._sampling import drawn_classes
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


def test_layer_of_several_centers_does_what_a_layer_must(tmp_path):
    check_layer(Proxies, {"num_classes": 7, "centers": 3}, 6, 7, True, tmp_path)
    path = tmp_path / "soft"
    path.mkdir()
    arguments = {"num_classes": 7, "centers": 3, "center_temperature": 0.2}
    check_layer(Proxies, arguments, 6, 7, True, path)


@pytest.mark.parametrize("temperature", [None, 0.2])
def test_cosine_of_a_class_is_that_of_its_centers(temperature, dtype, tolerance):
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(4, 3)), rng.normal(size=(5, 2, 3))
    layer = Proxies(5, centers=2, center_temperature=temperature, dtype=dtype)
    layer.build((None, 3))
    layer.set_weights([p.reshape(10, 3)])
    found = ops.convert_to_numpy(layer(x.astype(dtype)))
    cosines = np.einsum(
        "id,ckd->ick",
        x / np.linalg.norm(x, axis=-1, keepdims=True),
        p / np.linalg.norm(p, axis=-1, keepdims=True),
    )
    if temperature is None:
        expected = cosines.max(-1)
    else:
        shares = np.exp(cosines / temperature)
        expected = (shares * cosines).sum(-1) / shares.sum(-1)
    np.testing.assert_allclose(found, expected, tolerance, tolerance)


@pytest.mark.skipif(IS_KERAS_2, reason="classes are drawn on Keras 3")
@pytest.mark.parametrize("centers", [1, 2])
def test_sampled_cosines_are_those_of_the_batch_and_of_the_drawn_classes(centers):
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(4, 3)).astype("float32"), np.array([29, 4, 29, 0])
    layer = Proxies(30, centers=centers, sampled_classes=12, seed=7)
    every = Proxies(30, centers=centers)
    for one in (layer, every):
        one.build((None, 3))
    every.set_weights([ops.convert_to_numpy(layer.class_weights)])
    exact = ops.convert_to_numpy(every(x))
    twin = keras.random.SeedGenerator(7)
    for _ in range(2):
        drawn = ops.convert_to_numpy(drawn_classes(30, 12, twin))
        cosines, columns, correction = map(
            ops.convert_to_numpy, layer.sampled_cosines(x, labels)
        )
        others = ~np.isin(drawn, labels)
        counts = np.concatenate([[True, True, False, True], others])
        classes = np.concatenate([labels, drawn])
        np.testing.assert_allclose(
            cosines[:, counts], exact[:, classes[counts]], 1e-5, 1e-6
        )
        assert (cosines[:, ~counts] < -1e8).all()
        assert columns.tolist() == [0, 1, 0, 3]
        stands_for = np.where(others, np.log(27 / others.sum()), 0)
        np.testing.assert_allclose(correction, [0] * 4 + [*stands_for], 1e-6)


@pytest.mark.skipif(IS_KERAS_2, reason="classes are drawn on Keras 3")
def test_drawn_classes_need_the_labels_in_training():
    layer = Proxies(30, sampled_classes=12)
    x = np.ones((2, 3), "float32")
    assert layer(x).shape == (2, 30)
    with pytest.raises(ValueError, match=r"keras_dml\.models\.Classifier"):
        layer(x, training=True)
    with pytest.raises(ValueError, match="draws no classes; make it with sampled"):
        Proxies(30).sampled_cosines(x, np.array([0, 1]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("centers", 0), ("centers", 1.5), ("center_temperature", 0)],
)
def test_wrong_argument_of_the_centers_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*; got {value}"):
        Proxies(3, **{name: value})
