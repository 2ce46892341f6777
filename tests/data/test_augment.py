"""`augment=`: Keras's layers and functions, by public names alone."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dml._ops import IS_KERAS_2
from keras_dml.data import class_balanced_batches
from keras_dml.data import shuffled_batches

LABELS = np.repeat(np.arange(3), 4)
X = np.random.default_rng(0).integers(0, 256, (12, 10, 10, 3), np.uint8)

needs_keras_3 = pytest.mark.skipif(IS_KERAS_2, reason="layers are drawn on Keras 3")


def batches_of(augment, **options):
    return class_balanced_batches((X, LABELS), 3, 2, augment=augment, **options)


def passes(batches, count=1):
    return [x.numpy() for _ in range(count) for x, _ in batches]


def shade(images, seed):
    return tf.cast(images, tf.float32) + tf.random.stateless_uniform((), seed)


LAYERS = {
    "RandomRotation": lambda: keras.layers.RandomRotation(0.3),
    "RandomFlip": lambda: keras.layers.RandomFlip(),
    "RandomErasing": lambda: keras.layers.RandomErasing(1.0),
    "RandomColorJitter": lambda: keras.layers.RandomColorJitter(
        brightness_factor=0.5, contrast_factor=0.5
    ),
    "Pipeline": lambda: keras.layers.Pipeline(
        [keras.layers.RandomFlip(), keras.layers.RandomTranslation(0.3, 0.3)]
    ),
}


@needs_keras_3
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "Pipeline" else pytest.mark.slow)
        for name in LAYERS
    ],
)
def test_layer_of_keras_gives_the_same_pixels_again_and_goes_on(name):
    if not hasattr(keras.layers, name):
        pytest.skip(f"this Keras has no {name}")
    make = LAYERS[name]
    first = passes(batches_of(make(), seed=3), 2)
    keras.utils.set_random_seed(99)
    layer = make()
    again = batches_of(layer, seed=3)
    layer(X[:4], training=True)  # A layer that was used elsewhere draws the same here.
    np.testing.assert_array_equal(passes(again, 2), first)
    rest = passes(batches_of(make(), seed=3, initial_step=1))
    np.testing.assert_array_equal(rest, first[1:3])
    assert first[0].dtype == np.float32
    plain = passes(batches_of(None, seed=3), 2)
    changed = (np.stack(first) != np.stack(plain)).any(axis=(2, 3, 4))
    assert changed.any()


@pytest.mark.slow  # Keras traces every operation of it, twice.
@needs_keras_3
def test_rand_augment_gives_the_same_pixels_again():
    first = passes(batches_of(keras.layers.RandAugment(), seed=3), 2)
    again = passes(batches_of(keras.layers.RandAugment(), seed=3), 2)
    np.testing.assert_array_equal(again, first)
    images = np.concatenate(first)
    assert len({image.tobytes() for image in images}) == len(images)


def test_every_image_of_every_step_and_epoch_has_a_draw_of_its_own():
    one = X[:1].repeat(12, axis=0)
    batches = class_balanced_batches((one, LABELS), 3, 2, augment=shade)
    drawn = np.concatenate(passes(batches, 3))[:, 0, 0, 0]
    assert len(np.unique(drawn)) == 3 * 2 * 6


def test_draw_is_a_function_of_seed_epoch_step_and_position():
    options = {"augment": shade, "seed": 5}
    one = X[:1].repeat(12, axis=0)
    balanced = class_balanced_batches((one, LABELS), 3, 2, **options)
    shuffled = shuffled_batches((one, LABELS), 6, **options)
    np.testing.assert_array_equal(passes(balanced, 2), passes(shuffled, 2))
    other = shuffled_batches((one, LABELS), 6, augment=shade, seed=6)
    assert (np.stack(passes(other)) != np.stack(passes(shuffled))).all()


def test_draws_of_a_function_are_uniform():
    one = np.zeros((400, 1), np.float32)
    batches = shuffled_batches((one, np.arange(400) % 4), 40, augment=shade)
    drawn = np.sort(np.concatenate(passes(batches)).ravel())
    # Kolmogorov and Smirnov's bound at 1 in 1,000.
    assert np.abs(drawn - np.arange(400) / 400).max() < 1.95 / 400**0.5


def test_several_are_applied_in_order_with_draws_of_their_own():
    def double(images, seed):
        return 2 * images

    one = np.ones((12, 4), np.float32)

    def drawn(augment):
        return np.stack(
            passes(class_balanced_batches((one, LABELS), 3, 2, augment=augment))
        )

    np.testing.assert_allclose(drawn((shade, double)), 2 * drawn(shade))
    np.testing.assert_allclose(drawn(double), 2)
    once = drawn(shade) - 1
    assert (np.abs(drawn([shade, shade]) - 1 - 2 * once) > 1e-6).all()


@needs_keras_3
def test_layers_of_one_kind_and_seed_draw_apart():
    turn = keras.layers.RandomFlip("horizontal", seed=1)
    again = keras.layers.RandomFlip("horizontal", seed=1)
    # Both flip or neither in half of the cases; were their draws one, in all.
    x = np.stack(passes(batches_of([turn, again]), 8))
    plain = np.stack(passes(batches_of(None), 8))
    kept = (x == plain).all(axis=(2, 3, 4))
    assert 0.2 < kept.mean() < 0.8


def test_crop_and_flip_draw_what_they_draw_without():
    options = {"image_size": 8, "flip": True}
    plain = passes(batches_of(None, **options), 2)
    shaded = passes(batches_of(lambda images, seed: images + 1, **options), 2)
    np.testing.assert_array_equal(np.stack(shaded), np.stack(plain) + np.uint8(1))


def test_image_files_are_augmented_with_and_without_cache(noise, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_DML_CACHE", str(tmp_path))
    options = {"image_size": 8, "augment": shade, "seed": 2}
    direct, cached, on_disk = (
        passes(class_balanced_batches(noise, 2, 3, cache=cache, **options))
        for cache in (None, "memory", "disk")
    )
    np.testing.assert_array_equal(direct, cached)
    np.testing.assert_array_equal(direct, on_disk)
    plain = class_balanced_batches(noise, 2, 3, image_size=8, seed=2)
    drawn = np.stack(direct) - np.stack(passes(plain))
    assert drawn.min() >= 0 and drawn.max() < 1


def test_shape_and_dtype_are_what_augment_gives():
    def halve(images, seed):
        return tf.cast(images[:, ::2, ::2], tf.float16)

    spec = batches_of(halve).element_spec[0]
    assert (spec.shape, spec.dtype) == ((6, 5, 5, 3), tf.float16)


def test_an_error_of_augment_while_reading_is_not_taken_for_an_unreadable_file(noise):
    def fail_late(images, seed):
        # Not of the few seeds that are tried when it is made.
        fine = seed[0] < int(0.9 * 2**31)
        with tf.control_dependencies([tf.debugging.Assert(fine, ["too late"])]):
            return images + 0

    batches = class_balanced_batches(noise, 5, 4, image_size=8, augment=fail_late)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too late"):
        passes(batches, 20)


def test_a_function_that_ignores_its_seed_is_refused_when_made():
    def careless(images, seed):
        return images + tf.cast(tf.random.uniform(tf.shape(images)) * 99, tf.uint8)

    with pytest.raises(ValueError, match="two different images for one seed"):
        batches_of(careless)


GENERATOR = np.random.default_rng(0)


def numpy_noise(images, seed):
    return tf.cast(images, tf.float32) + np.random.normal()


def python_flip(images, seed):
    return images[:, :, ::-1] if random.random() < 0.5 else images


def noise_of_a_generator(images, seed):
    return tf.cast(images, tf.float32) + GENERATOR.normal()


@pytest.mark.parametrize("draw", [numpy_noise, python_flip, noise_of_a_generator])
def test_a_function_that_draws_with_numpy_or_python_is_refused_when_made(draw):
    message = "draws with NumPy or Python, which run once, when the batches are made"
    for _ in range(3):  # Two flips are often alike.
        with pytest.raises(ValueError, match=message):
            batches_of([shade, draw])


def test_numpy_constants_of_one_seed_are_taken():
    def add_texture(images, seed):
        return tf.cast(images, tf.float32) + np.random.default_rng(7).normal(size=3)

    added = passes(batches_of(add_texture))[0] - passes(batches_of(None))[0]
    texture = np.random.default_rng(7).normal(size=3)
    np.testing.assert_allclose(added, np.broadcast_to(texture, added.shape), atol=1e-4)


@needs_keras_3
def test_a_layer_that_was_never_called_is_built():
    layer = keras.layers.Normalization(mean=[1, 2, 3], variance=[4, 9, 16])
    expected = (passes(batches_of(None))[0] - [1.0, 2, 3]) / [2, 3, 4]
    x = passes(batches_of(layer))[0]
    np.testing.assert_allclose(x, expected, 1e-4, 1e-4)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ("RandomFlip", "augment must be a Keras layer, a function .* got 'RandomFlip'"),
        ([shade, 3], "augment must be a Keras layer, a function .* got 3"),
        (
            keras.layers.GaussianNoise,
            r"got <class .*GaussianNoise'>. Make an instance, GaussianNoise\(…\)",
        ),
        (
            lambda images: images,
            r"<lambda> can't be applied to .*\(1, 10, 10, 3\), uint8: TypeError: "
            r"[^\n]*<lambda>\(\) takes 1 positional argument but 2 were given$",
        ),
        (lambda images, seed: images[0], r"must give one batch of one image.*<lambda>"),
        (lambda images, seed: 5, "must give one batch of one image"),
        (lambda images, seed: images @ seed, "can't be applied"),
    ],
)
def test_what_can_not_be_applied_is_refused_when_made(augment, message):
    with pytest.raises(ValueError, match=message):
        batches_of(augment)


@needs_keras_3
@pytest.mark.parametrize(
    "augment",
    [
        keras.layers.GaussianNoise(0.1),
        lambda images, seed: keras.layers.GaussianNoise(0.1)(images, training=True),
    ],
)
def test_what_keras_or_tensorflow_says_is_told_without_the_calls_around_it(augment):
    with pytest.raises(ValueError, match=r"has type float32 .* type uint8") as caught:
        batches_of(augment)
    message = str(caught.value)
    assert "\n" not in message
    assert "\x1b" not in message
    assert "File" not in message


@needs_keras_3
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MixUp", "mixes images of different classes"),
        ("CutMix", "mixes images of different classes"),
        ("AugMix", "draws its operations once"),
    ],
)
def test_layers_that_can_not_be_drawn_for_each_image_are_refused(name, reason):
    if not hasattr(keras.layers, name):
        pytest.skip(f"this Keras has no {name}")
    layer = getattr(keras.layers, name)()
    with pytest.raises(ValueError, match=f"augment can't have {name}, as it {reason}"):
        batches_of([keras.layers.Pipeline([layer])])


@pytest.mark.skipif(not IS_KERAS_2, reason="Keras 3 takes layers")
def test_layers_are_refused_on_keras_2():
    with pytest.raises(ValueError, match="layers need Keras 3"):
        batches_of(keras.layers.RandomFlip())
