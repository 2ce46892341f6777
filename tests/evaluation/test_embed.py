import dataclasses

import keras
import numpy as np
import pytest

from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import embed

SIDE, RESIZE = 14, 20


@pytest.fixture(scope="module")
def embedder():
    keras.utils.set_random_seed(0)
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(5, 3)(x))
    x = keras.layers.Dropout(0.9)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(images, x)


@pytest.fixture(scope="module")
def direct(embedder, noise):
    """The images embedded one by one."""
    images = noise.images(SIDE, RESIZE, batch_size=1)
    return np.concatenate([embedder(image, training=False) for image in images])


@pytest.mark.parametrize("batch_size", [1, 8, 21, 100])
def test_every_image_is_embedded_in_order(embedder, noise, direct, batch_size):
    embeddings = embed(embedder, noise, RESIZE, batch_size, verbose=0)
    assert (embeddings.shape, embeddings.dtype) == ((21, 5), np.float32)
    np.testing.assert_allclose(embeddings, direct, atol=1e-5)


def test_order_of_the_data_set_is_the_order_of_the_rows(embedder, noise, direct):
    order = np.random.default_rng(0).permutation(21)
    mixed = dataclasses.replace(
        noise, paths=noise.paths[order], labels=noise.labels[order]
    )
    embeddings = embed(embedder, mixed, RESIZE, 8, verbose=0)
    np.testing.assert_allclose(embeddings, direct[order], atol=1e-5)


def test_resize_defaults_to_the_papers_proportion(embedder, noise):
    np.testing.assert_array_equal(
        embed(embedder, noise, verbose=0), embed(embedder, noise, 16, verbose=0)
    )


def test_embedding_leaves_the_weights_as_they_were(embedder, noise):
    before = [np.array(weight) for weight in embedder.get_weights()]
    embed(embedder, noise, RESIZE, verbose=0)
    for weight, same in zip(embedder.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)


def test_progress_is_silent_when_asked(embedder, noise, capsys):
    embed(embedder, noise, verbose=0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("shape", [(None, None, 3), (14, 16, 3), (588,)])
def test_model_without_a_square_input_of_fixed_size_is_refused(noise, shape):
    inputs = keras.Input(shape)
    embedder = keras.Model(inputs, keras.layers.Rescaling(1)(inputs), name="mine")
    with pytest.raises(ValueError, match=r"square images .*'mine' takes \(None, "):
        embed(embedder, noise)


def test_bits_are_set_above_zero_highest_bit_first():
    embedding = [[1.0, -1.0, 0.0, -0.0, 1e-30, 2.0, -2.0, 3.0, 4.0]]
    assert binary_codes(embedding).tolist() == [[0b10001101, 0b10000000]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 7, 8, 9, 512])
def test_unpacked_codes_are_the_signs(dtype, dim):
    embeddings = np.random.default_rng(0).normal(size=(5, dim)).astype(dtype)
    codes = binary_codes(embeddings)
    assert codes.dtype == np.uint8
    assert codes.shape == (5, -(-dim // 8))
    bits = np.unpackbits(codes, axis=1)
    np.testing.assert_array_equal(bits[:, :dim], embeddings > 0)
    assert not bits[:, dim:].any()


def test_codes_of_codes_are_refused():
    with pytest.raises(ValueError, match="embeddings must be float16"):
        binary_codes(np.ones((2, 2), np.uint8))


@pytest.mark.parametrize("batch_size", ["9", 2.5, 0])
def test_batch_size_is_refused_as_it_was_given(embedder, noise, batch_size):
    with pytest.raises(ValueError, match=f"batch_size must .*; got {batch_size!r}"):
        embed(embedder, noise, batch_size=batch_size, verbose=0)


def test_what_gives_no_embeddings_is_refused(noise):
    with pytest.raises(ValueError, match=r"embedder must be a keras.Model .* got None"):
        embed(None, noise, verbose=0)
    images = keras.Input((14, 14, 3))
    features = keras.Model(images, keras.layers.Conv2D(2, 3)(images))
    with pytest.raises(ValueError, match=r"\(batch, dim\); .* \(None, 12, 12, 2\)"):
        embed(features, noise, verbose=0)
