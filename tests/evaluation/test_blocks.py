import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_dml.evaluation._ranking.blocks import block_cuts
from keras_dml.evaluation._ranking.blocks import block_side

class_sizes = st.lists(st.integers(0, 300), min_size=1, max_size=60).filter(any)


@given(class_sizes, st.sampled_from([64, 128, 192]))
def test_blocks_hold_every_row_once_and_none_is_too_large(sizes, side):
    cuts = block_cuts(np.array(sizes), side)
    assert (cuts[0], cuts[-1]) == (0, sum(sizes))
    assert (np.diff(cuts) >= 1).all()
    assert (np.diff(cuts) <= side).all()


def test_blocks_end_where_classes_do_if_little_stays_empty():
    # An eighth of 64 rows is 8.
    assert block_cuts(np.array([56, 9, 60]), 64).tolist() == [0, 56, 120, 125]
    assert block_cuts(np.array([55, 10, 60]), 64).tolist() == [0, 64, 125]


@given(class_sizes, st.sampled_from([64, 512]), st.integers(1, 5))
def test_side_is_a_multiple_of_64_up_to_the_most(sizes, most, share):
    side = block_side(np.array(sizes), most, share)
    assert side % 64 == 0
    assert 64 <= side <= most


@pytest.mark.parametrize(
    ("rows", "most", "share", "expected"),
    [
        (100, 1600, 1, 128),  # one block
        (1601, 1600, 1, 832),  # two of 832, not two of 1,600
        (60_800, 1600, 1, 1600),  # 38 full blocks
        (14_336, 1600, 2, 1024),  # 14 full blocks; nine of 1,600 are no even number
    ],
)
def test_side_leaves_the_fewest_rows_empty(rows, most, share, expected):
    assert block_side(np.ones(rows, int), most, share) == expected
