import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from keras_dml.data import ImageDataset

PATHS = ["0.png", "1.png", "2.png", "3.png"]
LABELS = [0, 1, 1, 0]
NAMES = ["cat", "dog"]


def many_classes(count=10, images=2, queries=False):
    labels = np.tile(np.arange(count), images)
    return ImageDataset(
        [f"{row}.png" for row in range(len(labels))],
        labels,
        [f"class {label}" for label in range(count)],
        np.arange(len(labels)) < count if queries else None,
    )


def test_fields_become_arrays():
    dataset = ImageDataset(tuple(PATHS), LABELS, NAMES)
    assert len(dataset) == 4
    assert dataset.paths.tolist() == PATHS
    assert dataset.labels.tolist() == LABELS
    assert dataset.labels.dtype == np.int64
    assert dataset.class_names == ("cat", "dog")
    assert dataset.is_query is None


def test_paths_may_be_path_objects():
    dataset = ImageDataset([pathlib.Path("a") / "0.png"], [0], ["a"])
    assert dataset.paths.tolist() == [str(pathlib.Path("a") / "0.png")]


def test_small_integer_labels_become_int64():
    dataset = ImageDataset(PATHS, np.array(LABELS, np.uint8), NAMES)
    assert dataset.labels.dtype == np.int64


def test_fields_cannot_be_replaced():
    dataset = ImageDataset(PATHS, LABELS, NAMES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.labels = np.zeros(4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paths": []}, r"at least one image file; got an array of shape \(0,\)"),
        ({"paths": [PATHS]}, r"got an array of shape \(1, 4\)"),
        ({"labels": [0.0, 1, 1, 0]}, "labels must be integers; got dtype float64"),
        ({"labels": [0, 1, 1]}, r"each of the 4 paths; got shape \(3,\)"),
        ({"labels": [0, 1, 2, 0]}, r"0\.\.1, .* 2 class names; 2.png has label 2"),
        ({"labels": [0, 1, 1, -1]}, r"0\.\.1, .*; 3.png has label -1"),
        ({"paths": [*PATHS[:3], None]}, "it holds None"),
        ({"paths": [*PATHS[:3], 1]}, "it holds 1"),
        ({"class_names": "ab"}, "one name a class; got 'ab'"),
        ({"class_names": None}, "one name a class; got None"),
        ({"class_names": ["cat", None]}, r"class_names\[1\] is None"),
        ({"class_names": ["cat", "cat"]}, "'cat' more than once"),
        ({"class_names": ["cat", "dog", "cow"]}, "class 'cow' has no images"),
        ({"is_query": [1, 0, 0, 1]}, "one boolean for each of the 4 images"),
        ({"is_query": [True, False]}, r"got shape \(2,\), dtype bool"),
        ({"is_query": [True] * 4}, "some images as queries, not all"),
        ({"is_query": [False] * 4}, "some images as queries, not all"),
    ],
)
def test_fields_that_do_not_belong_together_are_refused(changes, message):
    fields = {"paths": PATHS, "labels": LABELS, "class_names": NAMES}
    with pytest.raises(ValueError, match=message):
        ImageDataset(**{**fields, **changes})


def test_subset_keeps_classes_and_relabels_them_in_order():
    dataset = ImageDataset(
        ["a0", "c1", "b2", "c3", "a4"], [0, 2, 1, 2, 0], ["a", "b", "c"]
    )
    subset = dataset.subset([True, False, True])
    assert subset.paths.tolist() == ["a0", "c1", "c3", "a4"]
    assert subset.labels.tolist() == [0, 1, 1, 0]
    assert subset.class_names == ("a", "c")
    assert subset.is_query is None


def test_subset_keeps_queries_beside_their_images():
    dataset = many_classes(4, 2, queries=True)
    subset = dataset.subset(np.array([False, True, True, False]))
    assert subset.paths.tolist() == ["1.png", "2.png", "5.png", "6.png"]
    assert subset.is_query.tolist() == [True, True, False, False]


def test_split_shares_the_classes_out_with_all_their_images():
    dataset = many_classes(10, 3, queries=True)
    rest, aside = dataset.split_by_class(0.3, seed=4)
    assert len(aside.class_names) == 3
    assert len(rest.class_names) == 7
    assert set(rest.class_names) | set(aside.class_names) == set(dataset.class_names)
    assert len(rest) + len(aside) == 30
    name_of = dict(
        zip(dataset.paths, np.array(dataset.class_names)[dataset.labels], strict=True)
    )
    for part in (rest, aside):
        for path, label in zip(part.paths, part.labels, strict=True):
            assert part.class_names[label] == name_of[path]
        assert (np.bincount(part.labels) == 3).all()
        assert part.is_query.sum() == len(part.class_names)


@pytest.mark.parametrize(
    ("fraction", "aside"),
    [(0.38, 4), (0.32, 3), (0.5, 5), (0.1, 2), (0.01, 2), (0.9, 8)],
)
def test_share_held_out_is_rounded_to_classes_that_can_be_told_apart(fraction, aside):
    assert len(many_classes().split_by_class(fraction)[1].class_names) == aside


def test_split_is_a_function_of_the_seed():
    dataset = many_classes()
    asides = [dataset.split_by_class(0.5, seed)[1].class_names for seed in range(20)]
    assert dataset.split_by_class(0.5, 3)[1].class_names == asides[3]
    assert len(set(asides)) > 10
    assert {name for aside in asides for name in aside} == set(dataset.class_names)


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        (0, "fraction must be a number above 0 and below 1; got 0"),
        (1, "fraction must be a number above 0 and below 1; got 1"),
        (True, "fraction must be a number above 0 and below 1; got True"),
        (-0.5, "above 0 and below 1; got -0.5"),
        (float("nan"), "above 0 and below 1; got nan"),
    ],
)
def test_split_by_no_share_is_refused(fraction, message):
    with pytest.raises(ValueError, match=message):
        many_classes().split_by_class(fraction)


def test_split_of_too_few_classes_is_refused():
    many_classes(4).split_by_class(0.5)
    with pytest.raises(ValueError, match="3 classes can't be split, as both sides"):
        many_classes(3).split_by_class(0.5)


def test_split_needs_a_seed_that_is_an_integer():
    with pytest.raises(ValueError, match="seed must be an integer of at least 0; got"):
        many_classes().split_by_class(0.5, seed=-1)


@pytest.mark.parametrize(
    "keep", [[True], [False] * 10, [True] * 11, range(10), [0.0] * 9 + [1.0], [0, 3]]
)
def test_subset_needs_one_boolean_for_each_class_and_a_class_to_keep(keep):
    with pytest.raises(ValueError, match="keep must hold one boolean for each of the"):
        many_classes(10).subset(keep)


def test_query_and_gallery_are_the_rows_that_is_query_marks_with_their_labels():
    dataset = ImageDataset(PATHS, LABELS, NAMES, [True, False, True, False])
    embeddings = np.arange(8).reshape(4, 2)
    queries, query_labels, gallery, gallery_labels = dataset.query_and_gallery(
        embeddings
    )
    assert queries.tolist() == [[0, 1], [4, 5]]
    assert query_labels.tolist() == [0, 1]
    assert gallery.tolist() == [[2, 3], [6, 7]]
    assert gallery_labels.tolist() == [1, 0]


def test_all_images_are_queries_and_gallery_is_none_where_none_is_marked():
    dataset = ImageDataset(PATHS, LABELS, NAMES)
    embeddings = [[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [3.0, 0.0]]
    queries, query_labels, gallery, gallery_labels = dataset.query_and_gallery(
        embeddings
    )
    assert queries.tolist() == embeddings
    assert query_labels.tolist() == LABELS
    assert gallery is None and gallery_labels is None


@pytest.mark.parametrize("is_query", [None, [True, False, True, False]])
@pytest.mark.parametrize("shape", [(3, 2), (5, 2), (0, 2), ()])
def test_embeddings_of_another_data_set_are_refused(is_query, shape):
    dataset = ImageDataset(PATHS, LABELS, NAMES, is_query)
    with pytest.raises(ValueError, match="one row for each of the 4 images; got shape"):
        dataset.query_and_gallery(np.zeros(shape))


def test_query_and_gallery_are_what_recall_takes():
    from keras_dml.evaluation import recall_at_k

    dataset = ImageDataset(PATHS, LABELS, NAMES, [True, True, False, False])
    embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [1.0, 0.1]])
    # The query of class 0 finds row 3, of class 0, first; so does that of class 1.
    found = recall_at_k(*dataset.query_and_gallery(embeddings), ks=(1, 2))
    assert found == {"recall@1": 0.5, "recall@2": 1.0}


def center_by_pillow(path, size, resize):
    with Image.open(path) as image:
        image = image.convert("RGB")
        square = image.resize((resize, resize), Image.Resampling.BILINEAR)
    margin = (resize - size) // 2
    return np.asarray(square.crop((margin, margin, margin + size, margin + size)))


@pytest.mark.parametrize(("size", "resize", "used"), [(14, None, 16), (9, 20, 20)])
def test_images_are_resized_with_the_middle_cut_out(noise, size, resize, used):
    images = np.concatenate(list(noise.images(size, resize)))
    expected = [center_by_pillow(path, size, used) for path in noise.paths]
    assert images.dtype == np.uint8
    assert np.abs(images.astype(int) - np.array(expected)).max() <= 1


def test_images_come_in_order_with_a_last_partial_batch(noise):
    batches = noise.images(8, batch_size=8)
    assert batches.element_spec.shape.as_list() == [None, 8, 8, 3]
    assert len(batches) == 3
    images = list(batches)
    assert [len(batch) for batch in images] == [8, 8, 5]
    whole = next(iter(noise.images(8, batch_size=21)))
    np.testing.assert_array_equal(np.concatenate(images), whole)


def test_images_of_queries_and_gallery_come_in_the_order_of_the_paths(noise):
    is_query = np.arange(21) % 2 == 0
    divided = dataclasses.replace(noise, is_query=is_query)
    one, other = (np.concatenate(list(part.images(8))) for part in (noise, divided))
    np.testing.assert_array_equal(one, other)


def test_gray_and_rgba_images_come_as_rgb(tmp_path, noise):
    gray, rgba = str(tmp_path / "gray.jpg"), str(tmp_path / "rgba.png")
    with Image.open(noise.paths[0]) as image:
        image.convert("L").save(gray)
        image.convert("RGBA").save(rgba)
    dataset = ImageDataset([gray, rgba], [0, 0], ["a"])
    (images,) = dataset.images(8)
    assert images.shape == (2, 8, 8, 3)
    assert (images[0] == images[0][..., :1]).numpy().all()


@pytest.mark.parametrize("row", [0, 10, 20])
def test_unreadable_image_is_named(tmp_path, noise, row):
    bad = tmp_path / "not an image.jpg"
    bad.write_text("text")
    paths = noise.paths.tolist()
    paths[row] = str(bad)
    images = dataclasses.replace(noise, paths=paths).images(8, batch_size=4)
    with pytest.raises(tf.errors.InvalidArgumentError, match=str(bad)):
        list(images)


@pytest.mark.parametrize("batch_size", [0, 2.0, True])
def test_wrong_batch_size_is_refused(noise, batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be .* got {batch_size}"):
        noise.images(8, batch_size=batch_size)


def test_side_out_of_range_is_refused(noise):
    with pytest.raises(ValueError, match="resize=7, image_size=8"):
        noise.images(8, 7)


@st.composite
def sets_and_bad_paths(draw):
    labels = draw(st.lists(st.integers(0, 3), min_size=1, max_size=20))
    labels = np.unique(labels, return_inverse=True)[1]
    paths = [f"{number}.png" for number in range(len(labels))]
    names = [f"class {label}" for label in range(labels.max() + 1)]
    bad = draw(st.sets(st.sampled_from([*paths, "other.png"])))
    return ImageDataset(paths, labels, names), bad


def names_of(dataset):
    """{path: name of its class}."""
    names = np.array(dataset.class_names)[dataset.labels]
    return dict(zip(dataset.paths.tolist(), names.tolist(), strict=True))


@given(sets_and_bad_paths())
def test_images_left_out_shift_no_label(drawn):
    dataset, bad = drawn
    before = names_of(dataset)
    expected = {path: name for path, name in before.items() if path not in bad}
    if not expected:
        with pytest.raises(ValueError, match=r"^none of the \d+ images is left"):
            dataset.without(bad)
        return
    assert names_of(dataset.without(bad)) == expected


@given(sets_and_bad_paths())
def test_replaced_images_are_of_the_same_class_and_place(drawn):
    dataset, bad = drawn
    before = names_of(dataset)
    if set(before.values()) - {n for path, n in before.items() if path not in bad}:
        with pytest.raises(
            ValueError, match=r"^none of the \d+ images of class 'class"
        ):
            dataset.with_replaced(bad)
        return
    replaced = dataset.with_replaced(bad)
    np.testing.assert_array_equal(replaced.labels, dataset.labels)
    assert replaced.class_names == dataset.class_names
    for path, old in zip(replaced.paths, dataset.paths, strict=True):
        assert path not in bad
        assert path == old or (old in bad and before[path] == before[old])


def test_queries_stay_queries_where_images_are_left_out():
    dataset = ImageDataset(
        list("abcd"), [0, 1, 1, 0], NAMES, [True, False, True, False]
    )
    left = dataset.without({"a"})
    assert left.is_query.tolist() == [False, True, False]
    with pytest.raises(ValueError, match="is_query must mark some images"):
        dataset.without({"a", "c"})


@pytest.mark.parametrize("path", ["a", b"a", pathlib.Path("a")])
@pytest.mark.parametrize("method", ["without", "with_replaced"])
def test_single_path_is_refused_where_paths_are_wanted(method, path):
    dataset = ImageDataset(list("abcd"), [0, 1, 1, 0], NAMES)
    with pytest.raises(ValueError, match=r"^paths must be a list such as \["):
        getattr(dataset, method)(path)
