"""The loaders of docs/data_sets.md, on files and data sets that the tests make."""

import io
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_dml.data import class_balanced_batches
from keras_dml.evaluation import RetrievalEvaluation
from keras_dml.evaluation import embed_query_and_gallery
from tests.test_documentation import code_blocks

SIDE = 12
LABELS = np.repeat((3, 5, 9), 4)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    shape = (20, 24, 3)
    return [
        Image.fromarray((25 * label + rng.integers(0, 25, shape)).astype(np.uint8))
        for label in LABELS
    ]


@pytest.fixture(scope="module")
def documented():
    """What the two code blocks define."""
    names = {"np": np, "tf": tf, "os": os}
    for block in code_blocks("docs/data_sets.md", "python"):
        if "def load(self, rows)" in block:
            exec(compile(block, "docs/data_sets.md", "exec"), names)
    return names


def encoded(image):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return stream.getvalue()


@pytest.fixture(scope="module")
def tfrecords(images, documented, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("records") / "images.tfrecord")
    numbers = np.unique(LABELS, return_inverse=True)[1]
    with tf.io.TFRecordWriter(path) as writer:
        for image, number in zip(images, numbers, strict=True):
            content = tf.train.BytesList(value=[encoded(image)])
            label = tf.train.Int64List(value=[number])
            features = {
                "image": tf.train.Feature(bytes_list=content),
                "label": tf.train.Feature(int64_list=label),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return documented["TFRecordImages"](path, SIDE)


class HuggingFaceDataset:
    """A stand-in for `datasets.Dataset`: columns by name, rows by a list of numbers."""

    def __init__(self, columns):
        self.columns = columns

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns[key]
        assert all(type(row) is int for row in key)
        return {name: [of[row] for row in key] for name, of in self.columns.items()}


@pytest.fixture(scope="module")
def hugging_face(images, documented):
    dataset = HuggingFaceDataset({"image": images, "label": LABELS.tolist()})
    return documented["HuggingFaceImages"](dataset, SIDE)


@pytest.fixture(scope="module", params=["tfrecords", "hugging_face"])
def dataset(request):
    return request.getfixturevalue(request.param)


def test_rows_are_the_images_asked_for(dataset, images):
    rows = np.array([7, 0, 11, 7])
    loaded = dataset.load(rows)
    assert (loaded.shape, loaded.dtype) == ((4, SIDE, SIDE, 3), np.uint8)
    # By shade, as one was written as JPEG and they are resized in different ways.
    shades = [np.asarray(images[row]).mean() for row in rows]
    np.testing.assert_allclose(loaded.mean(axis=(1, 2, 3)), shades, atol=3)
    np.testing.assert_array_equal(loaded[0], loaded[3])


def test_labels_number_the_classes(dataset):
    np.testing.assert_array_equal(dataset.labels, np.repeat((0, 1, 2), 4))


def test_it_is_trained_on_as_its_array_is_and_measured(dataset):
    x = dataset.load(np.arange(12))
    weights = []
    for data in (dataset, (x, dataset.labels)):
        keras.utils.set_random_seed(0)
        images = keras.Input((SIDE, SIDE, 3))
        flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
        embedder = keras.Model(images, keras.layers.Dense(4)(flat))
        model = keras.Model(images, keras.layers.Dense(3)(embedder.output))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.01), loss)
        evaluation = RetrievalEvaluation(embedder, data, ks=(1,))
        history = model.fit(
            class_balanced_batches(data, 3, 2, flip=True),
            epochs=2,
            callbacks=[evaluation],
            verbose=0,
        ).history
        assert np.isfinite(history["val_recall@1"]).all()
        queries, labels, *_ = embed_query_and_gallery(embedder, data, verbose=0)
        np.testing.assert_allclose(queries, embedder.predict(x, verbose=0), atol=1e-5)
        np.testing.assert_array_equal(labels, dataset.labels)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
