import threading

import ml_dtypes
import numpy as np
import pytest

from keras_dml.evaluation import ranking_metrics
from keras_dml.evaluation import recall_at_k
from keras_dml.evaluation._ranking import counting
from keras_dml.evaluation._ranking.counting import rank_counts


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(counting, "SIDE", 64)
    monkeypatch.setattr(counting, "CODE_SIDE", 64)


def counts_of(*arguments):
    def measure(counts):
        return np.array(
            [counts.negatives_above, counts.negatives_tied, counts.positives_tied]
        )

    return rank_counts(*arguments, measure)


@pytest.mark.parametrize("dim", [3, 17, 100, 129])
@pytest.mark.parametrize("itself", [True, False])
def test_copies_of_an_image_in_another_class_tie_exactly_with_it(dim, itself):
    # Every image has a copy in its own class and one in another, far away in the order.
    rng = np.random.default_rng(dim)
    images = rng.normal(size=(150, dim)).astype(np.float32)
    rows = np.concatenate([images, images, images])
    classes = np.concatenate([np.arange(150), np.arange(150), 299 - np.arange(150)])
    gallery = None if itself else rows
    above, negatives, positives = counts_of(rows, classes, gallery, classes)
    np.testing.assert_array_equal(above[:300], 0)
    np.testing.assert_array_equal(negatives[:300], 1)
    np.testing.assert_array_equal(positives[:300], 1 if itself else 2)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_memory_mapped_rows_of_any_float_are_measured(tmp_path, dtype):
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 30, 200)
    rows = rng.choice([-1, 1], (200, 16)).astype(dtype)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r").view(dtype)
    expected = recall_at_k(rows.astype(np.float32), classes)
    assert 0 < expected["recall@1"] < 1
    assert recall_at_k(mapped, classes) == expected


def test_only_a_block_of_a_memory_mapped_array_is_read_at_a_time(monkeypatch):
    monkeypatch.setattr("keras_dml._similarity._SCALED_VALUES", 8 * 50)
    rows_read = []

    class Watched(np.ndarray):
        def __getitem__(self, item):
            rows = super().__getitem__(item)
            rows_read.append(len(rows))
            return np.asarray(rows)

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, 8)).astype(np.float32)
    classes = rng.integers(0, 100, 1000)
    found = counts_of(rows.view(Watched), classes, None, classes)
    np.testing.assert_array_equal(found, counts_of(rows, classes, None, classes))
    assert max(rows_read) <= 64


def test_same_figures_whatever_the_number_of_workers(monkeypatch):
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 60, 700)
    rows = rng.normal(size=(60, 24))[classes] + 1.5 * rng.normal(size=(700, 24))
    found = []
    for workers in (1, 2, 7):
        monkeypatch.setattr(
            "keras_dml.evaluation._ranking.counting.usable_processors",
            lambda workers=workers: workers,
        )
        found.append(ranking_metrics(rows, classes))
    assert 0.1 < found[0]["all"]["map@r"] < 0.9
    assert found[0] == found[1] == found[2]


def test_each_worker_has_one_thread_of_openmp():
    faiss = pytest.importorskip("faiss")
    together = threading.Barrier(2)

    def threads(item):
        together.wait(60)
        return faiss.omp_get_max_threads()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "usable_processors", lambda: 2)
        before = faiss.omp_get_max_threads()
        assert counting.in_parallel(threads, range(2)) == [1, 1]
    assert faiss.omp_get_max_threads() == before
