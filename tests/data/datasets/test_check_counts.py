import pytest

from keras_dml.data.datasets._archive import check_counts

EXPECTED = {"train classes": 100, "train images": 5864, "test images": 5924}


def test_official_counts_pass():
    check_counts("list.txt", dict(reversed(EXPECTED.items())), EXPECTED, "Mend it.")


def test_each_differing_count_is_named():
    found = {**EXPECTED, "train images": 5000, "test images": 10_000}
    with pytest.raises(ValueError) as error:
        check_counts("list.txt", found, EXPECTED, "Mend it.")
    assert str(error.value) == (
        "'list.txt' is not whole, or another data set's; train images: 5,000 found, "
        "5,864 expected; test images: 10,000 found, 5,924 expected. Mend it."
    )
