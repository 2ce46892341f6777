import numpy as np
import pytest

from keras_dml.evaluation._labels import pair_classes

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
