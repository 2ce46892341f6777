import keras
import numpy as np
import pytest

from experiments._lib.build import KERAS_OPTIMIZERS
from experiments._lib.build import build_models
from experiments._lib.build import compile_model
from experiments._lib.build import learning_rate_of
from experiments._lib.build import make_optimizer
from experiments._lib.build import start_class_weights
from experiments._lib.losses import LOSSES
from experiments.configs import image_folder_paper
from keras_dml.layers import GeneralizedMeanPooling
from keras_dml.optimizers import SGD
from keras_dml.optimizers import LearningRateMultipliers


def small_config(**settings):
    config = image_folder_paper.get_config()
    config.trunk, config.weights = "conv4", ""
    config.image_size, config.resize, config.dim = 28, 32, 16
    config.classes = 5
    config.update(settings)
    return config


def test_trunk_is_pooled_as_the_config_says():
    _, embedder, _ = build_models(small_config(pooling="gem"), num_classes=5)
    (layer,) = (layer for layer in embedder.layers if layer.name == "pool")
    assert isinstance(layer, GeneralizedMeanPooling)


def test_too_few_classes_are_said_before_weights_are_read():
    with pytest.raises(ValueError, match=r"--config\.classes=4 or less"):
        build_models(small_config(weights="no file"), num_classes=4)
    # 5 × 5 images, as pairs for N-pairs, are 12 classes.
    with pytest.raises(ValueError, match=r"has 12 classes.*--config\.classes=4 or"):
        build_models(small_config(loss="n_pairs"), num_classes=11)
    build_models(small_config(balanced=False), num_classes=4)


def test_no_weights_are_asked_for_by_none_too():
    build_models(small_config(weights="None"), num_classes=5)
    with pytest.raises(FileNotFoundError, match="no file 'none'"):
        build_models(small_config(weights="none"), num_classes=5)


def test_keras_optimizers_are_known_by_their_names():
    assert {"adam", "adamw", "lion", "rmsprop", "nadam"} <= set(KERAS_OPTIMIZERS)
    assert "sgd" not in KERAS_OPTIMIZERS  # which is this package's


@pytest.mark.parametrize("name", sorted(KERAS_OPTIMIZERS))
def test_any_optimizer_of_keras_is_made_with_rate_and_decay(name):
    config = small_config(
        optimizer=name, schedule="constant", learning_rate=0.5, l2=0.25
    )
    optimizer = make_optimizer(config, steps_per_epoch=3)
    assert type(optimizer).__name__.lower() == name
    assert float(optimizer.learning_rate) == 0.5
    assert optimizer.weight_decay == 0.25


@pytest.mark.parametrize(("optimizer", "factor"), [("sgd", 10.0), ("adamw", 1.0)])
def test_the_losss_factor_is_for_steps_that_grow_with_the_gradient(optimizer, factor):
    config = small_config(
        loss="triplet_hard",
        optimizer=optimizer,
        schedule="constant",
        learning_rate=0.01,
    )
    made = make_optimizer(config, steps_per_epoch=3)
    assert LOSSES[config.loss].rate_factor == 10.0
    assert learning_rate_of(config) == pytest.approx(0.01 * factor)
    assert float(made.learning_rate) == pytest.approx(0.01 * factor)


def test_cosine_rises_through_the_warm_up_and_falls_to_0():
    config = small_config(
        optimizer="adamw",
        schedule="cosine",
        learning_rate=0.5,
        frozen_epochs=1,
        epochs=4,
        warmup_epochs=1.5,
    )
    rate = make_optimizer(config, steps_per_epoch=10)._learning_rate
    for step in range(15):
        assert float(rate(step)) == pytest.approx(0.5 * step / 15, abs=1e-6)
    for step in range(15, 50):
        expected = 0.25 * (1 + np.cos(np.pi * (step - 15) / 35))
        assert float(rate(step)) == pytest.approx(expected, abs=1e-6)
    config.warmup_epochs = 0.0
    rate = make_optimizer(config, steps_per_epoch=10)._learning_rate
    for step in range(50):
        expected = 0.25 * (1 + np.cos(np.pi * step / 50))
        assert float(rate(step)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", SGD), ("adamw", LearningRateMultipliers)]
)
def test_layer_decay_slows_the_trunk_at_any_precision(name, kind, precision):
    before = keras.mixed_precision.global_policy()
    config = small_config(optimizer=name, layer_decay=0.5, precision=precision)
    trunk, embedder, model = build_models(config, 5)
    compile_model(config, model, 3, trunk)
    assert keras.mixed_precision.global_policy().name == before.name
    scaled = isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16")
    optimizer = model.optimizer.inner_optimizer if scaled else model.optimizer
    assert type(optimizer) is kind
    found = keras.ops.convert_to_numpy(optimizer.multipliers)
    expected = [*np.repeat([1 / 16, 1 / 8, 1 / 4, 1 / 2], 3), 1, 1]
    np.testing.assert_allclose(found, expected)
    assert trunk.get_layer(index=2).compute_dtype == precision.removeprefix("mixed_")
    assert embedder.output.dtype == model.output.dtype == "float32"
    assert {v.dtype for v in model.trainable_variables} == {"float32"}


def test_jit_compile_reaches_the_model():
    config = small_config(jit_compile=True, deterministic=False)
    _, _, model = build_models(config, 5)
    compile_model(config, model, 3)
    assert model.jit_compile
    config.jit_compile = False
    compile_model(config, model, 3)
    assert not model.jit_compile


def test_batch_normalization_rests_and_class_weights_start_at_means(noise):
    config = small_config(batch_norm="frozen", class_weights="means")
    trunk, embedder, model = build_models(config, num_classes=5)
    norms = [
        layer
        for layer in trunk._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert norms
    assert not any(layer.trainable for layer in norms)
    start_class_weights(config, model, embedder, noise)
    embeddings = embedder.predict(noise.images(config.image_size, config.resize))
    mean = embeddings[noise.labels == 3].mean(axis=0)
    np.testing.assert_allclose(
        model.layers[-1].class_weights[3], mean / np.linalg.norm(mean), atol=1e-5
    )
