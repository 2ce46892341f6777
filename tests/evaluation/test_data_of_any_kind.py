"""What `embed` and `RetrievalEvaluation` take, by public names alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dml._ops import IS_KERAS_2
from keras_dml.evaluation import RetrievalEvaluation
from keras_dml.evaluation import embed
from keras_dml.evaluation import embed_query_and_gallery
from keras_dml.evaluation import recall_at_k

SIDE = 14
LABELS = np.repeat(np.arange(5), (2, 3, 4, 5, 7))
PyDataset = keras.utils.Sequence if IS_KERAS_2 else keras.utils.PyDataset


def make_embedder(*shape):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs))
    return keras.Model(inputs, keras.layers.Dense(6)(x), name="mine")


@pytest.fixture(scope="module")
def embedder():
    return make_embedder(SIDE, SIDE, 3)


@pytest.fixture(scope="module")
def pixels(noise):
    (images,) = noise.images(SIDE)
    return images.numpy()


class Loaded:
    def __init__(self, x, labels, is_query=None):
        self.x, self.labels, self.is_query = x, labels, is_query

    def load(self, rows):
        return self.x[rows]


class Batches(PyDataset):
    """Batches of 8, the last one smaller, as PyDataset's documentation makes them."""

    def __init__(self, x, labels):
        if not IS_KERAS_2:
            super().__init__()
        self.x, self.labels = x, labels

    def __len__(self):
        return -(-len(self.x) // 8)

    def __getitem__(self, batch):
        rows = slice(8 * batch, 8 * batch + 8)
        return self.x[rows], self.labels[rows]


def as_tf_data(x, labels):
    return tf.data.Dataset.from_tensor_slices((x, labels)).batch(8)


def as_tf_data_of_unknown_length(x, labels):
    return as_tf_data(x, labels).filter(lambda x, labels: True)


KINDS = (
    lambda x, labels: (x, labels),
    Loaded,
    Batches,
    as_tf_data,
    as_tf_data_of_unknown_length,
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_embeddings_and_labels_of_the_files(
    kind, embedder, noise, pixels
):
    expected = embed(embedder, noise, verbose=0)
    dataset = kind(pixels, LABELS)
    np.testing.assert_allclose(
        embed(embedder, dataset, verbose=0), expected, rtol=1e-4, atol=1e-5
    )
    queries, labels, *gallery = embed_query_and_gallery(embedder, dataset, verbose=0)
    np.testing.assert_allclose(queries, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(labels, LABELS)
    assert gallery == [None, None]


def test_labels_fit_where_each_pass_has_another_order(embedder, pixels):
    dataset = tf.data.Dataset.from_tensor_slices((pixels, LABELS)).shuffle(21).batch(8)
    expected = embed(embedder, (pixels, LABELS), verbose=0)
    orders = set()
    for _ in range(3):
        queries, labels, *_ = embed_query_and_gallery(embedder, dataset, verbose=0)
        distances = np.linalg.norm(queries[:, None] - expected, axis=2)
        rows = distances.argmin(axis=1)
        np.testing.assert_array_equal(labels, LABELS[rows])
        orders.add(tuple(rows))
    assert len(orders) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_measured_after_each_epoch(kind, embedder, noise, pixels):
    labels = np.array(list("abcde"))[LABELS] if kind is KINDS[0] else LABELS
    evaluation = RetrievalEvaluation(embedder, kind(pixels, labels), ks=(1, 3))
    logs = {}
    evaluation.on_epoch_end(0, logs)
    expected = recall_at_k(embed(embedder, noise, verbose=0), noise.labels, ks=(1, 3))
    assert logs == {f"val_{name}": figure for name, figure in expected.items()}


def test_text_labels_of_tf_data_are_measured(embedder, pixels):
    names = np.array(list("abcde"))[LABELS]
    embedded = embed_query_and_gallery(embedder, as_tf_data(pixels, names), verbose=0)
    by_number = embed_query_and_gallery(embedder, (pixels, LABELS), verbose=0)
    assert recall_at_k(*embedded, ks=(1,)) == recall_at_k(*by_number, ks=(1,))


def test_queries_of_loaded_rows_search_the_gallery(embedder, pixels):
    is_query = np.arange(21) % 3 == 0
    dataset = Loaded(pixels, LABELS, is_query.tolist())
    queries, query_labels, gallery, gallery_labels = embed_query_and_gallery(
        embedder, dataset, verbose=0
    )
    expected = embed(embedder, dataset, verbose=0)
    np.testing.assert_array_equal(queries, expected[is_query])
    np.testing.assert_array_equal(gallery, expected[~is_query])
    np.testing.assert_array_equal(query_labels, LABELS[is_query])
    np.testing.assert_array_equal(gallery_labels, LABELS[~is_query])


def test_arrays_are_resized_and_cropped_where_asked(embedder, noise):
    (large,) = noise.images(20, 20)
    expected = embed(embedder, noise, resize=20, verbose=0)
    given = embed(embedder, (large.numpy(), LABELS), resize=20, verbose=0)
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (9, 7, 1)])
def test_models_of_any_input_embed_arrays(shape):
    embedder = make_embedder(*shape)
    x = np.random.default_rng(0).normal(size=(21, *shape)).astype(np.float32)
    given = embed(embedder, (x, LABELS), verbose=0)
    np.testing.assert_allclose(given, embedder.predict(x, verbose=0), atol=1e-5)


def test_token_ids_are_embedded():
    ids = np.random.default_rng(0).integers(0, 50, (21, 7), np.int32)
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(50, 6)(inputs))
    embedder = keras.Model(inputs, x)
    given = embed(embedder, (ids, LABELS), verbose=0)
    np.testing.assert_allclose(given, embedder.predict(ids, verbose=0), atol=1e-6)


class Endless(PyDataset):
    def __init__(self):
        if not IS_KERAS_2:
            super().__init__()

    def __len__(self):
        raise NotImplementedError

    def __getitem__(self, batch):
        return X, [0, 0, 1, 1]


class ShortBatch(Batches):
    """Has one label too few in one batch."""

    def __init__(self, x, labels, short):
        super().__init__(x, labels)
        self.short = short

    def __getitem__(self, batch):
        x, labels = super().__getitem__(batch)
        return x, labels[: len(x) - (batch == self.short)]


def as_generator(dataset):
    spec = tf.TensorSpec((None, SIDE, SIDE, 3)), tf.TensorSpec((None,), tf.int64)
    batches = (dataset[batch] for batch in range(len(dataset)))
    return tf.data.Dataset.from_generator(lambda: batches, output_signature=spec)


@pytest.mark.parametrize("kind", [lambda dataset: dataset, as_generator])
def test_a_batch_with_a_label_too_few_is_named(kind, embedder, pixels):
    # The next batch has one too many, so that all are as many.
    labels = np.append(LABELS, 5)
    dataset = ShortBatch(pixels, labels, short=1)
    dataset = kind(dataset)
    message = "one label for each image; batch 1 has x of 8 rows and 7 labels"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        embed_query_and_gallery(embedder, dataset, verbose=0)


class Sizes(PyDataset):
    """Batches of given sizes."""

    def __init__(self, x, labels, sizes):
        if not IS_KERAS_2:
            super().__init__()
        self.x, self.labels, self.ends = x, labels, np.cumsum([0, *sizes])

    def __len__(self):
        return len(self.ends) - 1

    def __getitem__(self, batch):
        rows = slice(*self.ends[batch : batch + 2])
        return self.x[rows], self.labels[rows]


@pytest.mark.parametrize("sizes", [(3, 0, 5), (3, 5, 0), (0, 0, 8)])
@pytest.mark.parametrize("kind", [lambda dataset: dataset, as_generator])
def test_empty_batches_are_no_images(kind, sizes, pixels):
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    embedder = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    dataset = kind(Sizes(pixels, LABELS, sizes))
    embeddings, labels, *_ = embed_query_and_gallery(embedder, dataset, verbose=0)
    expected = np.concatenate([embedder(pixels[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(labels, LABELS[:8])


@pytest.mark.parametrize("kind", [lambda dataset: dataset, as_generator])
def test_empty_batches_alone_are_refused(kind, embedder, pixels):
    with pytest.raises(ValueError, match="dataset holds no images"):
        embed(embedder, kind(Sizes(pixels, LABELS, (0, 0))), verbose=0)


X = np.zeros((4, SIDE, SIDE, 3), np.float32)
ONE_HOT = np.eye(2)[[0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (as_tf_data(X, [0, 0, 1, 1]).repeat(), "this tf.data.Dataset is infinite"),
        (Endless(), "this Endless has no length"),
        (as_tf_data(X, [0, 0, 1, 1]).take(0), "dataset holds no batches"),
        (as_tf_data(X, [0, 0, 1, 1]).unbatch(), r"single images. Use batch\(100\)"),
        (as_tf_data(X, [0, 0, 1, 1]).map(lambda x, y: x), r"pairs \(x, labels\)"),
        (as_tf_data(X, [0, 0, 1, 1]).map(lambda x, y: (x, y, y)), "a tuple of 3"),
        (
            as_tf_data(X, [0, 0, 1, 1]).map(lambda x, y: ({"a": x}, y)),
            "one tensor as x; it gives a dict of 1",
        ),
        (as_tf_data(X, ONE_HOT), "labels of shape .*one-hot"),
        (Batches(X, ONE_HOT), "labels of shape .*one-hot"),
        (as_tf_data(X, [[0], [0], [1], [1]]), r"\(None, 1\), a column. .*\[:, 0\]"),
        (as_tf_data(X, [0.0, 0, 1, 1]), "integers, or strings; got dtype float32"),
        (Batches(X, np.array([0.0, 0, 1, 1])), "or strings; got dtype float64"),
        (ShortBatch(X, [0, 0, 1, 1], 0), "batch 0 has x of 4 rows and 3 labels"),
        ((X, ONE_HOT), r"one-hot labels. Pass labels.argmax"),
        ((X[:1], [0]), "dataset has one image; Recall@K needs at least 2"),
        ((X, [0, 0, 1]), "as many rows; got 4 and 3"),
        (
            (X[:, 1:], [0, 0, 1, 1]),
            r"rows of shape \(13, 14, 3\), and 'mine' takes \(14, 14, 3\). .*resize=",
        ),
        (
            as_tf_data(X[..., 0], [0, 0, 1, 1]),
            r"rows of shape \(14, 14\), and 'mine' takes \(14, 14, 3\)",
        ),
        (Batches(X[..., :1], [0, 0, 1, 1]), r"rows of shape \(14, 14, 1\)"),
        ([1, 2], "dataset is of type list. Pass an ImageDataset, arrays"),
    ],
)
def test_what_can_not_be_measured_is_refused_when_made(embedder, dataset, message):
    with pytest.raises(ValueError, match=message):
        RetrievalEvaluation(embedder, dataset)


def test_batches_can_not_be_resized(embedder):
    with pytest.raises(ValueError, match="resize=20 is not for batches"):
        RetrievalEvaluation(embedder, as_tf_data(X, [0, 0, 1, 1]), resize=20)
