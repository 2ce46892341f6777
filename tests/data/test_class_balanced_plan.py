import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_dml.data import class_balanced_plan


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
