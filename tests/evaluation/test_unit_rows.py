import numpy as np
import pytest

from keras_dml._similarity import unit_rows


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rows_get_length_one_in_float32(dtype):
    rows = np.random.default_rng(0).normal(size=(5, 300)).astype(dtype)
    unit = unit_rows(rows)
    expected = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (np.float16, 6e-8),
        (np.float16, 1.6e4),
        (np.float32, 1.5e-45),
        (np.float32, 1e-30),
        (np.float32, 8e37),
        (np.float64, 5e-324),
        (np.float64, 4e307),
    ],
)
def test_direction_survives_the_longest_and_shortest_rows(dtype, scale):
    rows = np.array([[3, -4]], dtype) * np.array(scale, dtype)
    np.testing.assert_allclose(unit_rows(rows), [[0.6, -0.8]], rtol=1e-6)


def test_zero_row_stays_zero():
    assert unit_rows(np.array([[0.0, 0.0], [0.0, 2.0]])).tolist() == [[0, 0], [0, 1]]


def test_added_rows_are_zero_and_come_last():
    unit = unit_rows(np.ones((5, 1)), row_multiple=4)
    assert unit[:, 0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]


def test_blocks_join_without_a_seam(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(11, 3))
    whole = unit_rows(rows, 4)
    monkeypatch.setattr("keras_dml._similarity._BLOCK_VALUES", 6)
    np.testing.assert_array_equal(unit_rows(rows, 4), whole)
