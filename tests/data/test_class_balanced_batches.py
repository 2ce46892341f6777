import collections
import dataclasses
import itertools
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from keras_dml.data import ImageDataset
from keras_dml.data import class_balanced_batches
from keras_dml.data import class_balanced_plan

CLASSES, IMAGES_PER_CLASS = 2, 3
BATCH = CLASSES * IMAGES_PER_CLASS
STEPS = 3  # 21 images // 6
SIDE, RESIZE = 12, 16
CACHES = (None, "memory", "disk")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_DML_CACHE", str(tmp_path / "cache"))


def batches_of(dataset, **options):
    return class_balanced_batches(
        dataset,
        CLASSES,
        IMAGES_PER_CLASS,
        **{"image_size": SIDE, "resize": RESIZE, "cache": "memory", **options},
    )


def passes(batches, count):
    """`count` epochs, as one list of (images, labels)."""
    return [
        (images.numpy(), labels.numpy())
        for _ in range(count)
        for images, labels in batches
    ]


def assert_same(some, others):
    assert len(some) == len(others)
    for (images, labels), (other_images, other_labels) in zip(
        some, others, strict=True
    ):
        np.testing.assert_array_equal(labels, other_labels)
        np.testing.assert_array_equal(images, other_images)


def resized_by_pillow(path):
    with Image.open(path) as image:
        image = image.convert("RGB")
        square = image.resize((RESIZE, RESIZE), Image.Resampling.BILINEAR)
    return np.asarray(square).astype(int)


@pytest.fixture(scope="module")
def three_epochs(noise):
    return passes(batches_of(noise), 3)


def test_shapes_types_and_cardinality_are_known(noise):
    batches = batches_of(noise)
    images, labels = batches.element_spec
    assert (images.shape, images.dtype) == ((BATCH, SIDE, SIDE, 3), tf.uint8)
    assert (labels.shape, labels.dtype) == ((BATCH,), tf.int64)
    assert batches.cardinality() == len(batches) == STEPS
    assert len(passes(batches, 1)) == STEPS


def test_data_set_smaller_than_a_batch_gives_one_batch(noise):
    batches = class_balanced_batches(noise, 5, 5, image_size=SIDE, cache="memory")
    (images, labels), *rest = passes(batches, 1)
    assert not rest
    assert images.shape == (25, SIDE, SIDE, 3)
    assert sorted(labels) == sorted(list(range(5)) * 5)


def test_each_pass_is_the_next_epoch_of_the_plan(noise, three_epochs):
    labels = np.array([labels for _, labels in three_epochs])
    plans = [
        class_balanced_plan(noise.labels, CLASSES, IMAGES_PER_CLASS, 0, epoch)
        for epoch in range(3)
    ]
    np.testing.assert_array_equal(labels, noise.labels[np.concatenate(plans)])


def test_images_are_the_planned_ones_resized_cropped_and_mirrored(noise, three_epochs):
    epoch, step = 1, 2
    images, _ = three_epochs[epoch * STEPS + step]
    rows = class_balanced_plan(noise.labels, CLASSES, IMAGES_PER_CLASS, 0, epoch)[step]
    draws = np.random.default_rng((0, epoch, step + 1)).random((BATCH, 3), np.float32)
    for image, row, (y, x, mirror) in zip(images, rows, draws, strict=True):
        top, left = int(y * (RESIZE - SIDE + 1)), int(x * (RESIZE - SIDE + 1))
        expected = resized_by_pillow(noise.paths[row])
        expected = expected[top : top + SIDE, left : left + SIDE]
        if mirror < 0.5:
            expected = expected[:, ::-1]
        assert np.abs(image - expected).max() <= 1


def crops_of(dataset, side):
    """{crop's bytes: (row of the image, top, left, mirrored)} at every place."""
    crops = {}
    for row, path in enumerate(dataset.paths):
        with Image.open(path) as image:
            pixels = np.asarray(image)
        for top, left in itertools.product(range(RESIZE - side + 1), repeat=2):
            crop = pixels[top : top + side, left : left + side]
            crops[crop.tobytes()] = (row, top, left, False)
            crops[crop[:, ::-1].tobytes()] = (row, top, left, True)
    return crops


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Images that need no resizing, so that crops can be found again exactly."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(1)
    paths = [str(folder / f"{row}.png") for row in range(12)]
    for path in paths:
        pixels = rng.integers(0, 256, (RESIZE, RESIZE, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return ImageDataset(paths, np.repeat((0, 1, 2), 4), ("a", "b", "c"))


@pytest.mark.parametrize("flip", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_crops_reach_every_place_and_half_are_mirrored_unless_flips_are_off(
    squares, flip
):
    side = RESIZE - 2
    crops = crops_of(squares, side)
    batches = class_balanced_batches(
        squares, 2, 3, image_size=side, resize=RESIZE, flip=flip, cache="memory"
    )
    found = []
    for images, labels in passes(batches, 50):
        for image, label in zip(images, labels, strict=True):
            row, *place = crops[image.tobytes()]
            assert squares.labels[row] == label
            found.append(tuple(place))
    times = collections.Counter(found)
    places = 9 * (2 if flip else 1)
    expected = len(found) / places
    assert len(times) == places
    assert {mirrored for *_, mirrored in times} == ({True, False} if flip else {False})
    # Four standard deviations of a binomial.
    assert all(abs(n - expected) < 4 * expected**0.5 for n in times.values())


@pytest.mark.parametrize("cache", CACHES)
def test_cache_does_not_change_the_batches(noise, three_epochs, cache):
    batches = batches_of(noise, cache=cache)
    assert_same(passes(batches, 2), three_epochs[: 2 * STEPS])


def test_abandoned_pass_starts_the_same_epoch_again(noise, three_epochs):
    batches = batches_of(noise)
    for taken in (1, 2):
        assert_same(passes(batches.take(taken), 1), three_epochs[:taken])
    assert_same(passes(batches, 1), three_epochs[:STEPS])
    assert_same(passes(batches.take(2), 1), three_epochs[STEPS : STEPS + 2])
    assert_same(passes(batches, 2), three_epochs[STEPS:])


@pytest.mark.parametrize("initial_step", [1, STEPS, STEPS + 2])
def test_initial_step_goes_on_where_a_run_stopped(noise, three_epochs, initial_step):
    batches = batches_of(noise, initial_step=initial_step)
    assert len(batches) == STEPS
    rest = passes(batches, 2)
    expected = three_epochs[initial_step : initial_step + 2 * STEPS]
    assert_same(rest[: len(expected)], expected)


def test_initial_step_goes_on_with_replacement_too(noise):
    run = passes(batches_of(noise, replacement=True), 2)
    rest = passes(batches_of(noise, replacement=True, initial_step=2), 1)
    assert_same(rest, run[2 : 2 + STEPS])


def test_fit_trains_on_the_epochs_in_order(noise, three_epochs):
    import keras

    class Recorder(keras.Model):
        def __init__(self):
            super().__init__()
            self.seen = []
            self.flat = keras.Sequential(
                [keras.layers.Flatten(), keras.layers.Dense(5)]
            )

        def call(self, images):
            return self.flat(images)

        def train_step(self, data):
            self.seen.append(data[1].numpy())
            return {"loss": 0.0}

    model = Recorder()
    model(three_epochs[0][0].astype("float32"))
    model.compile(loss="mse", run_eagerly=True)
    model.fit(batches_of(noise), epochs=3, shuffle=False, verbose=0)
    np.testing.assert_array_equal(model.seen, [labels for _, labels in three_epochs])


def test_two_builds_with_one_seed_are_alike_and_seeds_differ(noise):
    one = passes(batches_of(noise, seed=7), 1)
    assert_same(one, passes(batches_of(noise, seed=7), 1))
    other = passes(batches_of(noise, seed=8), 1)
    assert any((a != b).any() for (a, _), (b, _) in zip(one, other, strict=True))


def test_batches_of_a_step_are_augmented_anew_in_each_epoch(squares):
    batches = class_balanced_batches(
        squares, 3, 4, image_size=SIDE, resize=RESIZE, cache="memory"
    )
    (one, _), (other, _) = passes(batches, 2)
    assert not {image.tobytes() for image in one} & {image.tobytes() for image in other}


def damaged(tmp_path, kind):
    """Six PNG files in two classes, and a file that can't be decoded, not placed."""
    rng = np.random.default_rng(2)
    paths = [str(tmp_path / f"{row}.png") for row in range(6)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(path)
    bad = tmp_path / "bad ü.jpg"
    if kind == "text":
        bad.write_text("not an image")
    else:
        Image.open(paths[0]).save(bad, quality=95)
        content = bad.read_bytes()
        bad.write_bytes(content[: len(content) // 2])
    return ImageDataset(paths, np.repeat((0, 1), 3), ("a", "b")), str(bad)


def with_path_at(dataset, row, path):
    paths = dataset.paths.tolist()
    paths[row] = path
    return dataclasses.replace(dataset, paths=paths)


@pytest.mark.parametrize("kind", ["text", "truncated"])
@pytest.mark.parametrize("position", [0, 3, 5], ids=["first", "middle", "last"])
def test_unreadable_image_is_named_while_reading(tmp_path, kind, position):
    dataset, bad = damaged(tmp_path, kind)
    row = class_balanced_plan(dataset.labels, 2, 3, 0, 0).ravel()[position]
    dataset = with_path_at(dataset, row, bad)
    batches = class_balanced_batches(dataset, 2, 3, image_size=8)
    with pytest.raises(tf.errors.InvalidArgumentError, match=bad):
        passes(batches, 1)


def test_unreadable_image_is_named_from_a_batch_in_the_middle(tmp_path):
    dataset, bad = damaged(tmp_path, "text")
    plan = class_balanced_plan(dataset.labels, 1, 2, 0, 0)
    assert plan.shape == (3, 2)
    dataset = with_path_at(dataset, plan[1, 0], bad)
    rest = iter(class_balanced_batches(dataset, 1, 2, image_size=8))
    next(rest)
    with pytest.raises(tf.errors.InvalidArgumentError, match=bad):
        next(rest)


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("text", 0),
        ("truncated", 3),
        ("text", 5),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("truncated", 0), ("text", 3), ("truncated", 5))
        ),
    ],
)
def test_unreadable_image_is_named_while_caching(tmp_path, cache, kind, row):
    dataset, bad = damaged(tmp_path, kind)
    dataset = with_path_at(dataset, row, bad)
    with pytest.raises(ValueError, match=bad):
        class_balanced_batches(dataset, 2, 3, image_size=8, cache=cache)


def test_missing_image_is_named(tmp_path):
    dataset, _ = damaged(tmp_path, "text")
    pathlib.Path(dataset.paths[4]).unlink()
    with pytest.raises(tf.errors.InvalidArgumentError, match=dataset.paths[4]):
        passes(class_balanced_batches(dataset, 2, 3, image_size=8), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 6}, "classes=6 needs as many classes; the data set has 5"),
        ({"classes": 0}, "classes must be an integer of at least 1; got 0"),
        ({"classes": 2.0}, "classes must be an integer of at least 1; got 2.0"),
        ({"images_per_class": 10**9}, "images_per_class=1000000000 is more than all"),
        ({"images_per_class": 0}, "images_per_class must be .* at least 1; got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0; got -1"),
        ({"initial_step": -1}, "initial_step must be .* at least 0; got -1"),
        ({"initial_step": 1.5}, "initial_step must be an integer .* got 1.5"),
        ({"classes": True}, "classes must be an integer of at least 1; got True"),
        ({"seed": np.bool_(True)}, "seed must be an integer of at least 0; got .*True"),
        ({"flip": "False"}, "flip must be True or False; got 'False'"),
        ({"replacement": 1}, "replacement must be True or False; got 1"),
        ({"cache": "ram"}, "cache must be one of None, 'memory', 'disk'; got 'ram'"),
        ({"image_size": 0}, "image_size must be an integer of at least 1; got 0"),
        ({"image_size": 12.0}, "image_size must be an integer of at least 1; got 12.0"),
        ({"resize": 11}, "resize=11, image_size=12"),
    ],
)
def test_arguments_out_of_range_are_refused(noise, arguments, message):
    arguments = {
        "classes": 2,
        "images_per_class": 3,
        "image_size": 12,
        **arguments,
    }
    with pytest.raises(ValueError, match=message):
        class_balanced_batches(noise, **arguments)


@st.composite
def arguments(draw):
    """(labels, classes, images_per_class, seed, epoch), the labels in any order."""
    sizes = draw(st.lists(st.integers(1, 15), min_size=1, max_size=9))
    classes = draw(st.integers(1, len(sizes)))
    images_per_class = draw(st.integers(1, 12))
    seed, epoch = draw(st.integers(0, 10**6)), draw(st.integers(0, 100))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(seed).permutation(labels), (
        classes,
        images_per_class,
        seed,
        epoch,
    )


def shares_of(plan, images_per_class):
    """(batch, class of the batch, image of the class)."""
    return plan.reshape(len(plan), -1, images_per_class)


@pytest.mark.parametrize("replacement", [False, True])
@given(arguments())
def test_epoch_has_the_whole_batches_of_its_images_and_at_least_one(replacement, drawn):
    labels, (classes, images_per_class, seed, epoch) = drawn
    plan = class_balanced_plan(
        labels, classes, images_per_class, seed, epoch, replacement
    )
    batch = classes * images_per_class
    assert plan.shape == (max(1, len(labels) // batch), batch)
    assert plan.dtype == np.int64
    assert plan.min() >= 0 and plan.max() < len(labels)


@pytest.mark.parametrize("replacement", [False, True])
@given(arguments())
def test_batch_has_distinct_classes_side_by_side(replacement, drawn):
    labels, (classes, images_per_class, seed, epoch) = drawn
    plan = class_balanced_plan(
        labels, classes, images_per_class, seed, epoch, replacement
    )
    for batch in shares_of(labels[plan], images_per_class):
        assert (batch == batch[:, :1]).all()
        assert len(set(batch[:, 0])) == classes


@given(arguments())
def test_image_repeats_in_a_share_only_where_it_must_and_evenly(drawn):
    labels, (classes, images_per_class, seed, epoch) = drawn
    plan = class_balanced_plan(labels, classes, images_per_class, seed, epoch)
    for share in shares_of(plan, images_per_class).reshape(-1, images_per_class):
        members = np.flatnonzero(labels == labels[share[0]])
        times = np.sum(share[:, None] == members, axis=0)
        least, rest = divmod(images_per_class, len(members))
        assert times.min() == least
        assert times.max() == least + (rest > 0)


@pytest.mark.parametrize("size", range(1, 9))
def test_images_of_a_class_smaller_than_its_share_repeat_evenly(size):
    labels = np.repeat((0, 1), (size, 60))
    for images_per_class in range(size + 1, 14):
        plan = class_balanced_plan(labels, 2, images_per_class, 0, 0)
        least, rest = divmod(images_per_class, size)
        for batch in plan:
            times = np.bincount(batch, minlength=len(labels))[:size]
            assert times.min() == least
            assert times.max() == least + (rest > 0)


@given(arguments())
def test_each_image_of_a_class_comes_once_before_any_comes_again(drawn):
    labels, (classes, images_per_class, seed, epoch) = drawn
    plan = class_balanced_plan(labels, classes, images_per_class, seed, epoch).ravel()
    for label in np.unique(labels):
        of_class = plan[labels[plan] == label]
        size = np.sum(labels == label)
        for start in range(0, len(of_class), size):
            dealt = of_class[start : start + size]
            assert len(set(dealt)) == len(dealt)


@given(arguments())
def test_each_class_comes_once_before_any_comes_again(drawn):
    labels, (classes, images_per_class, seed, epoch) = drawn
    plan = class_balanced_plan(labels, classes, images_per_class, seed, epoch)
    turns = labels[plan[:, ::images_per_class]].ravel()
    count = labels.max() + 1
    for start in range(0, len(turns), count):
        dealt = turns[start : start + count]
        assert len(set(dealt)) == len(dealt)
    appearances = np.bincount(turns, minlength=count)
    assert appearances.max() - appearances.min() <= 1


@pytest.mark.parametrize("replacement", [False, True])
@given(arguments())
def test_plan_is_a_function_of_its_arguments(replacement, drawn):
    labels, rest = drawn
    plan = class_balanced_plan(labels, *rest, replacement)
    np.testing.assert_array_equal(
        plan, class_balanced_plan(labels.copy(), *rest, replacement)
    )


@pytest.mark.parametrize("replacement", [False, True])
def test_seeds_and_epochs_give_different_plans(replacement):
    labels = np.repeat(np.arange(20), 10)
    plans = {
        class_balanced_plan(labels, 4, 5, seed, epoch, replacement).tobytes()
        for seed in range(10)
        for epoch in range(10)
    }
    assert len(plans) == 100


def test_class_larger_than_its_share_shows_all_of_itself_over_the_epochs():
    labels = np.repeat((0, 1, 2), (200, 2, 2))
    seen = {
        image
        for epoch in range(60)
        for image in class_balanced_plan(labels, 3, 10, 0, epoch).ravel().tolist()
    }
    assert seen == set(range(204))


def test_small_and_large_classes_come_equally_often():
    labels = np.repeat((0, 1), (2, 198))
    plan = class_balanced_plan(labels, 2, 5, 0, 0)
    assert np.bincount(labels[plan].ravel()).tolist() == [100, 100]


def near(observed, probability, trials):
    """Within four standard deviations of a binomial's mean."""
    spread = np.sqrt(probability * (1 - probability) / trials)
    return np.abs(np.asarray(observed) / trials - probability).max() < 4 * spread


@pytest.mark.parametrize("replacement", [False, True])
def test_every_class_and_image_is_as_likely_at_any_place(replacement):
    labels = np.repeat(np.arange(4), 5)
    epochs = 1500
    plans = np.array(
        [
            class_balanced_plan(labels, 2, 3, 5, epoch, replacement)
            for epoch in range(epochs)
        ]
    )
    for place in (0, 1, 3, 5):
        for step in (0, 1, 2):
            times = np.bincount(plans[:, step, place], minlength=20)
            assert near(times, 1 / 20, epochs)


def test_replacement_repeats_images_as_often_as_independent_draws_do():
    labels = np.repeat(np.arange(10), 30)
    plans = [class_balanced_plan(labels, 2, 5, 0, epoch, True) for epoch in range(50)]
    shares = np.concatenate(plans).reshape(-1, 5)
    with_repeats = sum(len(set(share)) < 5 for share in shares.tolist())
    all_distinct = np.prod(1 - np.arange(5) / 30)
    assert near(with_repeats, 1 - all_distinct, len(shares))


def test_replacement_draws_the_classes_of_a_batch_whatever_came_before():
    labels = np.repeat(np.arange(10), 50)
    plan = class_balanced_plan(labels, 5, 1, 0, 0, True)
    turns = [set(batch) for batch in labels[plan].tolist()]
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    complements = sum(not (one & other) for one, other in pairs)
    # One in C(10, 5) = 252 pairs, where dealing in rounds would make it all of them.
    assert complements < len(pairs) / 10
    meetings = np.mean([len(one & other) for one, other in pairs])
    assert meetings == pytest.approx(5 * 5 / 10, abs=0.6)


def test_replacement_reaches_all_images_of_unequal_classes():
    labels = np.repeat((0, 1, 2), (1, 3, 12))
    plans = [class_balanced_plan(labels, 3, 4, 0, epoch, True) for epoch in range(200)]
    drawn = np.bincount(np.concatenate(plans).ravel(), minlength=16)
    assert drawn[0] == 200 * 4
    assert near(drawn[1:4], 1 / 3, 800)
    assert near(drawn[4:], 1 / 12, 800)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 4}, "classes must be an integer from 1 to 3; got 4"),
        ({"classes": True}, "classes must be an integer from 1 to 3; got True"),
        ({"images_per_class": 0}, "images_per_class must .* at least 1; got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0; got -1"),
        ({"epoch": 0.5}, "epoch must be an integer of at least 0; got 0.5"),
        ({"labels": [0, 2, 2]}, "each integer from 0 to 2; 1 does not occur"),
        ({"labels": [0, 2**60]}, "0 to 1152921504606846976; 1 does not occur"),
        ({"labels": [-1, 0, 0]}, "labels must be at least 0; got -1"),
        ({"labels": [0.0, 1.0]}, "labels must be integers; got dtype float64"),
        ({"labels": []}, r"at least one; got shape \(0,\)"),
        ({"labels": np.eye(3)}, "one-hot labels"),
        ({"replacement": 1}, "replacement must be True or False; got 1"),
    ],
)
def test_plan_refuses_arguments_out_of_range(arguments, message):
    plan = {
        "labels": [0, 0, 1, 1, 2, 2],
        "classes": 1,
        "images_per_class": 2,
        "seed": 0,
        "epoch": 0,
    }
    with pytest.raises(ValueError, match=message):
        class_balanced_plan(**{**plan, **arguments})
