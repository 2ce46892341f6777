import keras
import numpy as np
import pytest

from keras_dml._ops import ops
from keras_dml.layers import L2Normalization
from keras_dml.layers import NormalizedSoftmax
from keras_dml.layers import ParameterFreeLayerNormalization
from keras_dml.models import embedding_model
from keras_dml.models import trunk
from tests.models.lively_trunk import lively_trunk


def identity(*shape):
    """A trunk that gives what it gets, so that a test chooses the features."""
    inputs = keras.Input(shape)
    return keras.Model(inputs, keras.layers.Identity()(inputs), name="identity")


def expected_embeddings(features, kernel=None):
    """The head in NumPy: pool, normalize, map, scale to length 1."""
    x = features.astype(np.float64)
    if x.ndim == 4:
        x = x.mean((1, 2))
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    if kernel is not None:
        x = x @ kernel
    return x / np.sqrt((x**2).sum(1, keepdims=True))


POOLS = {
    "avg": lambda x: x.mean(1),
    "max": lambda x: x.max(1),
    "gem": lambda x: (np.maximum(x, 1e-6) ** 3).mean(1) ** (1 / 3),
    "token": lambda x: x[:, 0],
}
"""(batch, positions, channels) pooled in NumPy."""


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 28, 28, 3)).astype("float32")


@pytest.mark.parametrize("shape", [(3, 2, 16), (16,)])
@pytest.mark.parametrize("dim", [5, 16, 40])
def test_equals_the_formula(shape, dim):
    features = np.random.default_rng(0).normal(1, 3, (7, *shape)).astype("float32")
    model = embedding_model(identity(*shape), dim)
    assert model.output_shape == (None, dim)
    kernels = model.get_weights()
    assert [kernel.shape for kernel in kernels] == [(16, dim)] * (dim != 16)
    found = model.predict(features, verbose=0)
    assert found.dtype == np.float32
    expected = expected_embeddings(features, *kernels)
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5)


@pytest.mark.parametrize(("width", "dim"), [(16, 1250), (1024, 20)])
def test_linear_map_starts_uniform_within_one_over_root_width(width, dim):
    model = embedding_model(identity(width), dim)
    layer = model.get_layer("linear_map")
    assert layer.bias is None
    (kernel,) = layer.get_weights()
    bound = width**-0.5
    assert np.abs(kernel).max() <= bound * (1 + 1e-6)
    # A tenth of a uniform distribution's mass lies in each tenth of its range.
    counts, _ = np.histogram(kernel, 10, (-bound, bound))
    np.testing.assert_allclose(counts / kernel.size, 0.1, atol=0.015)


@pytest.mark.parametrize(
    ("shape", "pooling"),
    [
        *(((5, 16), pooling) for pooling in POOLS),
        *(((3, 2, 16), pooling) for pooling in POOLS if pooling != "token"),
    ],
)
def test_pools_as_asked(shape, pooling, tmp_path):
    features = np.random.default_rng(0).normal(1, 3, (7, *shape)).astype("float32")
    model = embedding_model(identity(*shape), 8, pooling=pooling)
    assert model.output_shape == (None, 8)
    found = model.predict(features, verbose=0)
    pooled = POOLS[pooling](features.astype("float64").reshape(7, -1, 16))
    kernel = model.get_layer("linear_map").get_weights()[0]
    np.testing.assert_allclose(found, expected_embeddings(pooled, kernel), 1e-4, 1e-5)
    assert len(model.trainable_variables) == (2 if pooling == "gem" else 1)
    model.save(tmp_path / "embedder.keras")
    loaded = keras.saving.load_model(tmp_path / "embedder.keras")
    np.testing.assert_array_equal(loaded.predict(features, verbose=0), found)


@pytest.mark.parametrize("pooling", POOLS)
def test_padding_that_the_trunk_masks_is_not_pooled(pooling, tmp_path):
    ids = np.array([[4, 2, 7, 0, 0], [1, 5, 0, 0, 0], [3, 3, 6, 2, 9]])
    inputs = keras.Input((5,), dtype="int32")
    tokens = keras.layers.Embedding(10, 16, mask_zero=True)
    network = keras.Model(inputs, tokens(inputs))
    # The largest, so that a maximum would show it.
    tokens.set_weights(
        [np.where(np.arange(10)[:, None] == 0, 9, *tokens.get_weights())]
    )
    model = embedding_model(network, 8, pooling=pooling)
    found = model.predict(ids, verbose=0)
    (vectors,) = tokens.get_weights()
    pooled = [POOLS[pooling](vectors[None, row[row > 0]])[0] for row in ids]
    kernel = model.get_layer("linear_map").get_weights()[0]
    expected = expected_embeddings(np.stack(pooled), kernel)
    np.testing.assert_allclose(found, expected, 1e-3, 1e-4)
    model.save(tmp_path / "embedder.keras")
    loaded = keras.saving.load_model(tmp_path / "embedder.keras")
    np.testing.assert_array_equal(loaded.predict(ids, verbose=0), found)


HEAD = ("pool", "layer_norm", "linear_map", "embedding")


@pytest.mark.parametrize("pooling", POOLS)
@pytest.mark.parametrize("converted", [False, True])
def test_trunk_may_have_layers_of_the_heads_names(pooling, converted, tmp_path):
    inputs = x = keras.Input((5, 4), name="images")
    for number, name in enumerate((*HEAD, "pool_1")):
        x = keras.layers.Dense(4 + number, name=name)(x)
    network = keras.Model(inputs, x, name="preprocessing")
    converter = keras.layers.Rescaling(0.5, name="images") if converted else None
    model = embedding_model(network, 3, pooling=pooling, image_converter=converter)
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    numbers = ("", "", "", "") if converted else ("_2", "_1", "_1", "_1")
    assert names[-4:] == [
        name + number for name, number in zip(HEAD, numbers, strict=True)
    ]
    x = np.random.default_rng(0).normal(size=(6, 5, 4)).astype("float32")
    found = model.predict(x, verbose=0)
    kernel = model.get_layer(f"linear_map{numbers[2]}").get_weights()[0]
    features = ops.convert_to_numpy(network(x * 0.5 if converted else x))
    expected = expected_embeddings(POOLS[pooling](features), kernel)
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5)
    model.save(tmp_path / "embedder.keras")
    loaded = keras.saving.load_model(tmp_path / "embedder.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), found)
    assert [layer.name for layer in loaded.layers] == names
    again = embedding_model(loaded, 2)  # a head on a head
    assert again.predict(x, verbose=0).shape == (6, 2)


def test_files_of_version_0_2_still_load(images, tmp_path):
    network = lively_trunk("conv4", (28, 28, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(network.outputs[0])
    x = ParameterFreeLayerNormalization(name="layer_norm")(x)
    x = keras.layers.Dense(8, use_bias=False, name="linear_map")(x)
    x = L2Normalization(name="embedding")(x)
    old = keras.Model(network.inputs[0], x, name="embedding_model")
    expected = old.predict(images, verbose=0)
    old.save(tmp_path / "old.keras")
    loaded = keras.saving.load_model(tmp_path / "old.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), expected)
    old.save_weights(tmp_path / "old.weights.h5")
    new = embedding_model(trunk("conv4", (28, 28, 3)), 8)
    new.load_weights(tmp_path / "old.weights.h5")
    np.testing.assert_array_equal(new.predict(images, verbose=0), expected)


def test_image_converter_comes_before_any_trunk(images):
    network = lively_trunk("conv4", (28, 28, 3))
    converter = keras.layers.Rescaling(0.5, 3.0)
    model = embedding_model(network, 64, image_converter=converter)
    assert model.input_shape == (None, 28, 28, 3)
    features = ops.convert_to_numpy(network(images * 0.5 + 3))
    np.testing.assert_allclose(
        model.predict(images, verbose=0), expected_embeddings(features), 1e-3, 1e-4
    )


def test_linear_map_is_left_out_where_the_trunk_has_the_width():
    names = [layer.name for layer in embedding_model(identity(2, 2, 16), 16).layers]
    assert "linear_map" not in names
    assert names[-3:] == ["pool", "layer_norm", "embedding"]


def test_embeddings_of_images_have_length_1(images):
    model = embedding_model(trunk("conv4", (28, 28, 3)), 32)
    found = model.predict(images, verbose=0)
    assert found.shape == (6, 32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, 1e-5)


def test_trunk_is_shared():
    shared = trunk("conv4", (28, 28, 3))
    first, second = embedding_model(shared, 8), embedding_model(shared, 16)
    assert first.input is shared.input
    shared.set_weights([weight + 1 for weight in shared.get_weights()])
    for model in (first, second):
        np.testing.assert_array_equal(model.get_weights()[0], shared.get_weights()[0])


@pytest.mark.parametrize("name", ["conv4", "mobilenet"])
def test_saved_model_gives_equal_embeddings(name, images, tmp_path):
    images = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    model = embedding_model(lively_trunk(name, (32, 32, 3)), 8)
    model.save(tmp_path / "embedder.keras")
    loaded = keras.saving.load_model(tmp_path / "embedder.keras")
    assert loaded.name == "embedding_model"
    found = loaded.predict(images, verbose=0)
    np.testing.assert_array_equal(found, model.predict(images, verbose=0))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, 1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_trains_as_a_classifier_and_saves_its_class_weights(policy, images, tmp_path):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        embedder = embedding_model(trunk("conv4", (28, 28, 3)), 8)
        logits = NormalizedSoftmax(3)(embedder.output)
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert embedder.output.dtype == logits.dtype == "float32"
    model = keras.Model(embedder.input, logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    history = model.fit(images, np.arange(6) % 3, 6, epochs=12, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    found = embedder.predict(images, verbose=0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, 1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )


def test_numpy_integer_is_taken():
    model = embedding_model(identity(4), np.int64(3))
    assert type(model.get_layer("linear_map").get_config()["units"]) is int


@pytest.mark.parametrize("dim", [0, -8, 2.0, "8", None])
def test_wrong_dim_is_refused(dim):
    with pytest.raises(ValueError, match=f"dim must be an integer.*got {dim!r}"):
        embedding_model(identity(4), dim)


@pytest.mark.parametrize("shape", [(2, 3, 3, 4)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"'identity' gives \(None, .*4\)"):
        embedding_model(identity(*shape), 8)


@pytest.mark.parametrize("pooling", ["max", "gem", "token"])
def test_pooled_features_are_not_pooled_again(pooling):
    message = rf"pooling='{pooling}' needs .*'identity' gives \(None, 4\).*Leave"
    with pytest.raises(ValueError, match=message):
        embedding_model(identity(4), 8, pooling=pooling)


def test_feature_map_has_no_first_token():
    message = r"pooling='token' needs .*'identity' gives \(None, 2, 3, 4\).*'gem'"
    with pytest.raises(ValueError, match=message):
        embedding_model(identity(2, 3, 4), 8, pooling="token")


@pytest.mark.parametrize("pooling", ["mean", None, 3])
def test_unknown_pooling_is_refused_with_those_there_are(pooling):
    message = f"pooling must be one of 'avg', 'max', 'gem', 'token'; got {pooling!r}"
    with pytest.raises(ValueError, match=message):
        embedding_model(identity(5, 4), 8, pooling=pooling)


@pytest.mark.parametrize("converter", [keras.layers.Rescaling, 1 / 255])
def test_image_converter_that_is_no_layer_is_refused(converter):
    with pytest.raises(ValueError, match=r"image_converter must be a Keras layer.*got"):
        embedding_model(identity(2, 3, 4), 8, image_converter=converter)


def test_trunk_that_is_not_one_input_and_one_output_is_refused():
    inputs = keras.Input((4,))
    two = keras.Model(inputs, [inputs + 1, inputs + 2])
    with pytest.raises(ValueError, match="one input and one output; got 1 and 2"):
        embedding_model(two, 8)
    with pytest.raises(ValueError, match=r"trunk must be a functional .*got 'conv4'"):
        embedding_model("conv4", 8)


def test_layer_normalization_can_be_left_out():
    network = trunk("conv4", (16, 16, 3))
    embedder = embedding_model(network, 64, layer_norm=False)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (3, 16, 16, 3)).astype("float32")
    features = ops.convert_to_numpy(network(images)).mean(axis=(1, 2))
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(
        ops.convert_to_numpy(embedder(images)), expected, atol=1e-6
    )
