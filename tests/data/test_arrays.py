"""Arrays and memory maps as training and test sets, by public names alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dml.data import class_balanced_batches
from keras_dml.data import class_balanced_plan
from keras_dml.data import ordered_batches
from keras_dml.data import shuffled_batches

LABELS = np.repeat(np.arange(5), (2, 3, 4, 5, 7))
SIDE, RESIZE = 12, 16


def passes(batches, count=1):
    return [(x.numpy(), y.numpy()) for _ in range(count) for x, y in batches]


def assert_same(some, others):
    assert len(some) == len(others)
    for (x, labels), (other_x, other_labels) in zip(some, others, strict=True):
        assert x.dtype == other_x.dtype
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.fixture(scope="module")
def resized(noise):
    """The pixels of the noisy files, resized as the batches of files are."""
    (images,) = noise.images(RESIZE, RESIZE)
    return images.numpy()


@pytest.fixture(scope="module")
def memory_map(resized, tmp_path_factory):
    file = tmp_path_factory.mktemp("arrays") / "resized.npy"
    np.save(file, resized)
    return np.load(file, mmap_mode="r")


class Loaded:
    """What `load(rows)` gives, and how it was asked."""

    def __init__(self, x, labels, is_query=None):
        self.x, self.labels, self.is_query = x, labels, is_query
        self.asked = []

    def load(self, rows):
        self.asked.append(rows)
        return self.x[rows]


OPTIONS = {"image_size": SIDE, "seed": 3}


@pytest.fixture(scope="module")
def batches_of_files(noise):
    """Two epochs, class-balanced and shuffled, with a function that adds noise."""
    options = {"resize": RESIZE, "augment": [add], **OPTIONS}
    return (
        passes(class_balanced_batches(noise, 2, 3, **options), 2),
        passes(shuffled_batches(noise, 4, **options), 2),
    )


def add(images, seed):
    shade = tf.random.stateless_uniform((1, 1, 1, 3), seed) * 99
    return images + tf.cast(shade, images.dtype)


@pytest.mark.parametrize("kind", ["array", "memory map", "load"])
def test_pixels_of_files_give_the_batches_of_the_files(
    resized, memory_map, kind, batches_of_files
):
    data = {
        "array": (resized, LABELS),
        "memory map": (memory_map, LABELS.tolist()),
        "load": Loaded(resized, LABELS),
    }[kind]
    options = {"flip": True, "augment": add, **OPTIONS}
    balanced, shuffled = batches_of_files
    assert_same(passes(class_balanced_batches(data, 2, 3, **options), 2), balanced)
    assert_same(passes(shuffled_batches(data, 4, **options), 2), shuffled)


def trained_on(data, **options):
    """The weights after two epochs."""
    keras.utils.set_random_seed(1)
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(images))
    model = keras.Model(
        images, keras.layers.Dense(5)(keras.layers.GlobalMaxPooling2D()(x))
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    batches = class_balanced_batches(data, 2, 3, image_size=SIDE, **options)
    model.fit(batches, epochs=2, verbose=0)
    return model.get_weights()


@pytest.mark.slow
def test_training_on_files_arrays_and_load_gives_the_same_weights(noise, resized):
    options = {"augment": keras.layers.RandomRotation(0.1), "seed": 5}
    of_files = trained_on(noise, resize=RESIZE, **options)
    for data in ((resized, LABELS), Loaded(resized, LABELS)):
        weights = trained_on(data, flip=True, **options)
        for one, other in zip(weights, of_files, strict=True):
            np.testing.assert_array_equal(one, other)
    other = trained_on((resized, LABELS), flip=True, **{**options, "seed": 6})
    assert any((a != b).any() for a, b in zip(other, of_files, strict=True))


@pytest.mark.parametrize(
    "x",
    [
        np.arange(21 * 4, dtype=np.float32).reshape(21, 4),
        np.arange(21 * 6, dtype=np.int32).reshape(21, 6),
        np.arange(21 * 24, dtype=np.uint8).reshape(21, 2, 4, 3),
        np.arange(21, dtype=np.float16),
        np.array([f"word {n}" for n in range(21)]),
    ],
    ids=["features", "token ids", "images", "numbers", "text"],
)
def test_rows_come_as_they_are_by_the_plan(x):
    batches = class_balanced_batches((x, LABELS), 2, 3, seed=4)
    assert batches.element_spec[0].shape == (6, *x.shape[1:])
    plan = class_balanced_plan(LABELS, 2, 3, seed=4, epoch=0)
    for (rows, labels), expected in zip(passes(batches), plan, strict=True):
        if x.dtype.kind == "U":
            rows = np.char.decode(rows.astype(bytes))
        else:
            assert rows.dtype == x.dtype
        np.testing.assert_array_equal(rows, x[expected])
        np.testing.assert_array_equal(labels, LABELS[expected])


def test_load_is_asked_for_whole_batches_in_order():
    data = Loaded(np.arange(21.0), LABELS)
    batches = class_balanced_batches(data, 2, 3, seed=4)
    made = len(data.asked)
    passes(batches)
    plan = class_balanced_plan(LABELS, 2, 3, seed=4, epoch=0)
    np.testing.assert_array_equal(data.asked[made:], plan)


@pytest.mark.parametrize("step", [1, 4])
def test_a_run_goes_on_where_it_stopped(resized, step):
    options = {"image_size": SIDE, "flip": True, "seed": 2}
    whole = passes(class_balanced_batches((resized, LABELS), 2, 3, **options), 3)
    rest = class_balanced_batches((resized, LABELS), 2, 3, initial_step=step, **options)
    assert_same(passes(rest), whole[step : step + 3])


def test_a_pass_that_is_left_starts_again(resized):
    batches = class_balanced_batches((resized, LABELS), 2, 3)
    first = passes(batches.take(1))
    whole = passes(batches)
    assert_same(first, whole[:1])
    assert (passes(batches)[0][0] != whole[0][0]).any()


def test_images_that_are_not_square_are_cropped_everywhere():
    numbers = np.arange(9 * 7, dtype=np.int32).reshape(1, 9, 7, 1)
    batches = class_balanced_batches((numbers, [0]), 1, 1, image_size=6)
    corners = {int(x[0, 0, 0, 0]) for x, _ in passes(batches, 40)}
    assert corners == {7 * top + left for top in range(4) for left in range(2)}


def test_resize_alone_resizes_without_a_crop(resized):
    batches = class_balanced_batches(
        (resized.astype(np.float32), LABELS), 5, 1, resize=8
    )
    (x, _), *_ = passes(batches)
    rows = class_balanced_plan(LABELS, 5, 1, 0, 0)[0]
    expected = tf.image.resize(resized[rows], (8, 8), antialias=True)
    np.testing.assert_allclose(x, expected, atol=1e-3)


def test_arrays_are_not_flipped_unless_asked(resized):
    (x, _), *_ = passes(class_balanced_batches((resized, LABELS), 5, 4))
    rows = class_balanced_plan(LABELS, 5, 4, 0, 0)[0]
    np.testing.assert_array_equal(x, resized[rows])
    (x, _), *_ = passes(class_balanced_batches((resized, LABELS), 5, 4, flip=True))
    flipped = (x == resized[rows][:, :, ::-1]).all(axis=(1, 2, 3))
    kept = (x == resized[rows]).all(axis=(1, 2, 3))
    assert (flipped ^ kept).all() and flipped.any() and kept.any()


def test_ordered_batches_give_every_row_once(resized, noise):
    for data in ((resized, LABELS), Loaded(resized, LABELS)):
        batches = ordered_batches(data, batch_size=8)
        assert len(batches) == 3
        x, labels = (np.concatenate(one) for one in zip(*passes(batches), strict=True))
        np.testing.assert_array_equal(x, resized)
        np.testing.assert_array_equal(labels, LABELS)
    ((x, labels),) = passes(ordered_batches(noise, image_size=SIDE, resize=RESIZE))
    np.testing.assert_array_equal(x, resized[:, 2:14, 2:14])
    np.testing.assert_array_equal(labels, LABELS)
    ((x, _),) = passes(ordered_batches((resized, LABELS), image_size=SIDE))
    np.testing.assert_array_equal(x, resized[:, 2:14, 2:14])
    ((x, _),) = passes(ordered_batches((resized, LABELS), image_size=6, resize=8))
    by_file = tf.image.resize(resized, (8, 8), antialias=True)[:, 1:7, 1:7]
    assert np.abs(x - by_file).max() <= 0.5


def test_model_is_evaluated_on_ordered_batches():
    x = np.random.default_rng(0).normal(size=(21, 4)).astype(np.float32)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss)
    batches = ordered_batches((x, LABELS), batch_size=8)
    np.testing.assert_allclose(
        model.evaluate(batches, verbose=0),
        model.evaluate(x, LABELS, verbose=0),
        rtol=1e-5,
    )


X = np.zeros((4, 8, 8, 3))


class WithoutRows:
    labels = (0, 1)


def loading(give, labels=(0, 0, 1, 1), **members):
    kind = type("Own", (), {"labels": labels, "load": lambda self, rows: give(rows)})
    data = kind()
    for name, value in members.items():
        setattr(data, name, value)
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, [0, 0, 1]), "x and labels must have as many rows; got 4 and 3"),
        ((X, np.eye(4)), r"one-hot labels. Pass labels.argmax\(axis=1\)"),
        ((X, [[0], [0], [1], [1]]), r"shape \(4, 1\), a column. Pass labels\[:, 0\]"),
        ((X, [[0], [0, 1]]), "labels makes no array: .*Pass one integer for each row"),
        ((X, [0.0, 0.0, 1.0, 1.0]), r"integers; got dtype float64. .*astype\(.int64"),
        (
            (X, [False, False, True, True]),
            r"integers; got dtype bool. .*astype\(.int64",
        ),
        ((X, [0, 0.5, 1, 1]), r"got dtype float64. Number the classes: `np.unique\("),
        (
            (X, [0, 0, 1, np.nan]),
            "dtype float64. Leave out the rows whose label is",
        ),
        (([[1, 2], [3], [4], [5]], [0, 0, 1, 1]), "x makes no array: .*Pad rows of"),
        ((X, [0, 0, 2, 2]), "from 0 to 2; 1 does not occur. .*np.unique"),
        ((X, [0, 0, 9, 9]), "from 0 to 9; 1 does not occur. .*np.unique"),
        ((X, [-1, 0, 0, 0]), "labels must be at least 0; got -1. .*np.unique"),
        ((X, list("aabb")), "labels to train on must be integers; .*np.unique"),
        ((X, np.array(0)), r"labels must be one integer for each row.*\(\)"),
        ((X[:0], []), "x must be an array of at least one row"),
        ((np.array([None] * 4), [0, 0, 1, 1]), "x has dtype object"),
        ([X, [0, 0, 1, 1]], "dataset is of type list. Pass an ImageDataset, arrays"),
        (X, "dataset is of type ndarray. Pass an ImageDataset, arrays"),
        (WithoutRows(), r"dataset is of type WithoutRows. .*load\(rows\)"),
        (loading(lambda rows: X[0]), r"load\(\[0 3\]\) gave an array of shape \(8, 8"),
        (loading(lambda rows: [None] * 2), "what load gives has dtype object"),
        (
            loading(lambda rows: (X[rows], rows)),
            "what load gives makes no array: .*Let it give x alone",
        ),
        (loading(lambda rows: X[rows], [0, 2, 2, 2]), "1 does not occur"),
        (
            loading(lambda rows: X[rows], is_query=[True] * 3),
            "is_query must hold one boolean for each of the 4 rows",
        ),
        (
            tf.data.Dataset.from_tensor_slices((X, [0, 0, 1, 1])).batch(2),
            r"is a _BatchDataset, which is read in its own order; .*model.fit as they",
        ),
    ],
)
@pytest.mark.parametrize(
    "make",
    [
        lambda data: class_balanced_batches(data, 1, 2),
        lambda data: shuffled_batches(data, 2),
    ],
)
def test_data_that_is_not_whole_is_refused_when_made(make, data, message):
    with pytest.raises(ValueError, match=message):
        make(data)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X, {"cache": "memory"}, "cache='memory' is for image files"),
        (X, {"image_size": 9}, r"image_size=9 can't be cropped from .*\(8, 8, 3\)"),
        (X, {"image_size": 9, "resize": 8}, "resize=8, image_size=9"),
        (X, {"image_size": 0}, "image_size must be an integer of at least 1; got 0"),
        (X, {"resize": -1}, "resize must be an integer of at least 1; got -1"),
        (X[..., 0], {"image_size": 4}, r"image_size=4 is for images.*\(8, 8\)"),
        (X[:, 0, 0], {"resize": 4}, r"resize=4 is for images.*\(3,\)"),
        (X[:, 0, 0], {"flip": True}, r"flip=True is for images.*\(3,\)"),
        (X, {"flip": 1}, "flip must be True or False; got 1"),
    ],
)
def test_what_rows_can_not_have_is_refused_when_made(x, options, message):
    with pytest.raises(ValueError, match=message):
        class_balanced_batches((x, [0, 0, 1, 1]), 2, 2, **options)


def test_load_that_changes_its_mind_is_named_while_reading():
    data = loading(lambda rows: X[rows][:, : 8 - (1 in rows)])
    batches = class_balanced_batches(data, 2, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="rows of one shape"):
        passes(batches)


def test_class_numbers_of_any_integer_type_are_taken():
    for dtype in ("uint8", "int16", "uint64"):
        batches = class_balanced_batches((X, np.array([0, 1, 1, 0], dtype)), 2, 2)
        (_, labels), *_ = passes(batches)
        assert labels.dtype == np.int64
        assert sorted(labels) == [0, 0, 1, 1]


def test_image_files_are_cropped_to_224_pixels_by_default(noise):
    spec = class_balanced_batches(noise, 2, 3).element_spec[0]
    assert (spec.shape, spec.dtype) == ((6, 224, 224, 3), tf.uint8)
