import numpy as np
import pytest

from keras_dml.evaluation._labels import checked_labels
from keras_dml.evaluation._labels import class_numbers
from keras_dml.evaluation._labels import pair_classes


def numbers_of(queries, gallery):
    found = class_numbers(
        checked_labels(queries, "query_labels", len(queries)),
        checked_labels(gallery, "gallery_labels", len(gallery)),
    )
    return [numbers.tolist() for numbers in found]


def test_equal_labels_share_a_number_across_both_arrays():
    assert numbers_of([30, 10], [10, 20, 30]) == [[2, 0], [0, 1, 2]]


@pytest.mark.parametrize(
    ("queries", "gallery"),
    [
        (["b", "a"], ["a", "long name"]),
        ([b"b", b"a"], [b"a", b"c"]),
        (np.array(["b", "a"], object), np.array(["a", "c"])),
    ],
)
def test_strings_are_numbered_like_integers(queries, gallery):
    assert numbers_of(queries, gallery) == [[1, 0], [0, 2]]


@pytest.mark.parametrize("base", [2**24, 2**53, 2**62])
def test_signed_and_unsigned_labels_compare_as_integers(base):
    queries = np.array([base, base + 1], np.int64)
    gallery = np.array([base + 1, base + 2], np.uint64)
    assert numbers_of(queries, gallery) == [[0, 1], [1, 2]]


def test_negative_label_is_not_its_unsigned_wrap():
    queries = np.array([-1], np.int64)
    assert numbers_of(queries, np.array([2**64 - 1], np.uint64)) == [[0], [1]]


@pytest.mark.parametrize("low", [-1, 1, np.int64(1)])
def test_list_of_labels_below_and_beyond_int64_stays_exact(low):
    labels = checked_labels([low, 2**63, 2**63 + 1, np.uint64(2**63)], "labels", 4)
    assert labels.tolist() == [low, 2**63, 2**63 + 1, 2**63]
    assert {type(label) for label in labels.tolist()} == {int}
    found, _ = class_numbers(labels, labels)
    assert found.tolist() == [0, 1, 2, 1]


@pytest.mark.parametrize(
    "labels",
    [
        [0.0, 1.0],
        [True, False],
        [1, "a"],
        np.array([1, "a"], object),
        np.array([True, 1], object),
        np.array([None, "a"], object),
    ],
)
def test_labels_that_are_neither_integers_nor_strings_are_refused(labels):
    with pytest.raises(ValueError, match="labels must be integers, or strings"):
        checked_labels(labels, "labels", 2)


@pytest.mark.parametrize("labels", [[1], [[1], [2]], 7])
def test_one_label_a_row_is_demanded(labels):
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\)"):
        checked_labels(labels, "labels", 2)


def test_integers_and_strings_do_not_mix():
    with pytest.raises(ValueError, match="must be of one kind"):
        numbers_of([1], ["1"])


ROWS = np.ones((2, 3))


def test_equal_labels_share_a_number_on_both_sides():
    found = pair_classes(ROWS, ["b", "c"], np.ones((3, 3)), ["c", "a", "b"])
    assert [classes.tolist() for classes in found] == [[1, 2], [2, 0, 1]]


def test_without_a_gallery_both_sides_are_the_queries():
    found = pair_classes(ROWS, [9, 7], None, None)
    assert [classes.tolist() for classes in found] == [[1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("gallery", "gallery_labels", "message"),
    [
        (ROWS, None, "go together; got only gallery"),
        (None, [0, 1], "go together; got only gallery_labels"),
        (ROWS, [0], r"gallery_labels must have shape \(2,\)"),
        (ROWS, ["a", "b"], "must be of one kind"),
    ],
)
def test_labels_that_do_not_fit_are_refused(gallery, gallery_labels, message):
    with pytest.raises(ValueError, match=message):
        pair_classes(ROWS, [0, 1], gallery, gallery_labels)
