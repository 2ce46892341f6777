import sys

import faiss
import numpy as np
import pytest

from keras_dml.search import Calibration
from keras_dml.search import HNSWNeighbors


def embeddings(rows=2000, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, 12))


def built(**settings):
    index = HNSWNeighbors(**settings)
    index.build(embeddings())
    return index


def share_found(index):
    queries = embeddings(200, seed=1)
    unit = [
        rows / np.linalg.norm(rows, axis=1)[:, None] for rows in (queries, embeddings())
    ]
    nearest = (unit[0] @ unit[1].T).argmax(axis=1)
    return np.mean(index.search(queries, 1)[0][:, 0] == nearest)


def test_more_effort_finds_more():
    index = built(M=2, ef_construction=4, ef_search=1)
    little = share_found(index)
    index.ef_search = 500
    assert little < 0.6 < share_found(index)


def test_m_and_ef_construction_reach_faiss(tmp_path):
    sizes = []
    for m in (4, 16):
        built(M=m).save(tmp_path / str(m))
        sizes.append((tmp_path / str(m) / "index.faiss").stat().st_size)
    # On the ground level alone 24 more edges of 4 bytes a row, by the paper's M0 = 2 M.
    assert sizes[1] - sizes[0] == pytest.approx(2000 * 24 * 4, rel=0.05)
    assert share_found(built(M=4, ef_construction=1, ef_search=8)) < share_found(
        built(M=4, ef_construction=200, ef_search=8)
    )


def test_seeds_give_different_graphs(tmp_path):
    for seed in (5, 6):
        built(seed=seed).save(tmp_path / str(seed))
    first, other = ((tmp_path / name / "index.faiss").read_bytes() for name in "56")
    assert first != other


@pytest.mark.parametrize("rows", [embeddings(), np.eye(64, dtype=np.uint8)])
def test_file_is_the_same_whatever_was_searched(rows, tmp_path):
    index = HNSWNeighbors()
    index.build(rows)
    index.save(tmp_path / "new")
    index.search(rows[:3], 5)
    index.save(tmp_path / "searched")
    index = HNSWNeighbors()
    index.build(rows)
    index.ef_search = 7
    index.search(rows[:1], 1)
    index.save(tmp_path / "again")
    names = ("new", "searched", "again")
    files = {(tmp_path / name / "index.faiss").read_bytes() for name in names}
    assert len(files) == 1


def test_building_leaves_faisss_threads_as_they_were():
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        built()
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


def test_new_ef_search_drops_the_calibration():
    index = built()
    index.calibration = Calibration(1, 0.9, 1.0, True, 5, 0, 1.0, 1.0)
    index.ef_search = 7
    assert index.calibration is None
    assert index.parameters == {
        "M": 32,
        "ef_construction": 200,
        "ef_search": 7,
        "seed": 0,
    }


def test_file_of_another_faiss_index_is_refused(tmp_path):
    built().save(tmp_path / "index")
    flat = faiss.IndexFlatIP(12)
    flat.add(embeddings().astype(np.float32))
    faiss.write_index(flat, str(tmp_path / "index" / "index.faiss"))
    record = {
        **{"kind": "hnsw", "metric": "cosine", "dim": 12, "count": 2000},
        **{"parameters": {}, "calibration": None, "files": {}},
    }
    with pytest.raises(
        ValueError, match="is of type IndexFlatIP, with 2000 rows of 12"
    ):
        HNSWNeighbors.from_record(tmp_path / "index", record)


def test_missing_faiss_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r'pip install "keras_dml\[faiss\]"'):
        built()


@pytest.mark.parametrize(
    "settings",
    [
        {"M": 1},
        {"M": 1025},
        {"ef_construction": 0},
        {"ef_search": 0},
        {"seed": -1},
        {"seed": 2**31},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} must be an integer"):
        HNSWNeighbors(**settings)


@pytest.mark.parametrize("name", ["M", "ef_construction", "seed"])
def test_what_the_index_was_built_with_cannot_be_changed(name):
    index = HNSWNeighbors()
    parameters = index.parameters
    with pytest.raises(AttributeError, match=name):
        setattr(index, name, 3)
    assert index.parameters == parameters
