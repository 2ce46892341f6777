"""Folders as version 0.1 wrote them: sealed alike, some names another."""

import json
import shutil

import numpy as np
import pytest

from keras_dml._files import write_sealed_folder
from keras_dml.evaluation import binary_codes
from keras_dml.search import AnnoyNeighbors
from keras_dml.search import Calibration
from keras_dml.search import ExactNeighbors
from keras_dml.search import HNSWNeighbors
from keras_dml.search import load_neighbors

CALIBRATION = {
    "k": 8,
    "target": 0.99,
    "agreement": 0.995,
    "reached": True,
    "queries": 30,
    "seed": 5,
    "ms_per_query": 0.25,
    "exact_ms_per_query": 0.125,
}
# How each index is made now, and the parameters that version 0.1 wrote of it.
INDEXES = {
    "exact": (ExactNeighbors, {}),
    "annoy": (
        lambda: AnnoyNeighbors(trees=7, search_k=300, seed=5),
        {"trees": 7, "search_k": 300, "seed": 5},
    ),
    "hnsw": (
        lambda: HNSWNeighbors(M=8, ef_construction=40, ef_search=30, seed=5),
        {"links": 8, "build_ef": 40, "ef": 30, "seed": 5},
    ),
}


def embeddings(rows, seed):
    return np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)


@pytest.fixture(params=list(INDEXES))
def kind(request):
    return request.param


@pytest.fixture(params=["cosine", "hamming"])
def metric(request):
    return request.param


@pytest.fixture
def index(kind, metric):
    build, _ = INDEXES[kind]
    index = build()
    rows = embeddings(300, seed=0)
    index.build(rows if metric == "cosine" else binary_codes(rows))
    index.calibration = Calibration(**CALIBRATION)
    return index


def copy_files(source):
    """Copies what a sealed folder holds into another, but for the record."""

    def write(folder):
        shutil.copytree(source, folder, dirs_exist_ok=True)
        (folder / "index.json").unlink()

    return write


def save_as_0_1(index, folder, metric):
    index.save(folder.with_name("new"))
    record = {
        "kind": index.kind,
        "metric": metric,
        "dim": 16 if metric == "cosine" else 2,
        "count": 300,
        "parameters": INDEXES[index.kind][1],
        "calibration": CALIBRATION,
    }
    write_sealed_folder(folder, record, copy_files(folder.with_name("new")))
    shutil.rmtree(folder.with_name("new"))


def assert_same_index(loaded, index, metric):
    queries = embeddings(20, seed=1)
    queries = queries if metric == "cosine" else binary_codes(queries)
    assert type(loaded) is type(index)
    assert loaded.parameters == index.parameters
    assert loaded.calibration == index.calibration
    for found, expected in zip(
        loaded.search(queries, 5), index.search(queries, 5), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_index_of_version_0_1_loads_as_it_was_saved(index, metric, tmp_path):
    save_as_0_1(index, tmp_path / "old", metric)
    for load in (load_neighbors, type(index).load):
        assert_same_index(load(tmp_path / "old"), index, metric)


def test_index_of_version_0_1_is_saved_by_todays_names(index, metric, tmp_path):
    save_as_0_1(index, tmp_path / "old", metric)
    load_neighbors(tmp_path / "old").save(tmp_path / "again")
    record = json.loads((tmp_path / "again" / "index.json").read_text())
    assert record["parameters"] == index.parameters
