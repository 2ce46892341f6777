import sys
import types

import annoy
import numpy as np
import pytest

from keras_dml.evaluation import binary_codes
from keras_dml.search import AnnoyNeighbors
from keras_dml.search import Calibration
from keras_dml.search import load_neighbors
from keras_dml.search.annoy_neighbors import checked_annoy


def embeddings(rows=2000, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, 12))


def built(**settings):
    index = AnnoyNeighbors(**settings)
    index.build(embeddings())
    return index


def test_first_neighbor_does_not_depend_on_how_many_are_asked_for():
    index = built(trees=2, search_k=20)
    queries = embeddings(50, seed=1)
    one, _ = index.search(queries, 1)
    many, _ = index.search(queries, 10)
    np.testing.assert_array_equal(one[:, 0], many[:, 0])


def test_asking_for_more_than_search_k_inspects_as_many():
    ids, _ = built(trees=50, search_k=1).search(embeddings(5, seed=1), 2000)
    assert ids.shape == (5, 2000)
    assert ((ids >= 0).sum(axis=1) > 500).all()


def test_what_is_not_found_has_no_id_and_sorts_last():
    ids, similarities = built(search_k=1).search(embeddings(50, seed=1), 100)
    missing = ids < 0
    assert missing.any()
    assert not missing.all()
    assert (similarities[missing] == -np.inf).all()
    assert (np.diff(missing.astype(int), axis=1) >= 0).all()


def test_search_k_defaults_to_200_nodes_a_tree():
    assert AnnoyNeighbors(trees=30).search_k == 6000


def test_seeds_give_different_forests(tmp_path):
    for seed in (5, 6):
        built(seed=seed).save(tmp_path / str(seed))
    first, other = ((tmp_path / name / "index.ann").read_bytes() for name in "56")
    assert first != other


def test_new_search_k_drops_the_calibration():
    index = built()
    index.calibration = Calibration(1, 0.9, 1.0, True, 5, 0, 1.0, 1.0)
    index.search_k = 7
    assert index.calibration is None
    assert index.parameters == {"trees": 50, "search_k": 7, "seed": 0}


def test_file_with_other_trees_than_the_record_says_is_refused(tmp_path):
    built(trees=7).save(tmp_path / "index")
    record = {
        **{"kind": "annoy", "metric": "cosine", "dim": 12, "count": 2000},
        **{"parameters": {"trees": 8}, "calibration": None, "files": {}},
    }
    with pytest.raises(ValueError, match="holds 2000 rows in 7 trees"):
        AnnoyNeighbors.from_record(tmp_path / "index", record)


def test_damaged_index_is_refused_before_annoy_maps_it(tmp_path, monkeypatch):
    built().save(tmp_path / "index")
    file = tmp_path / "index" / "index.ann"
    file.write_bytes(file.read_bytes()[:-1])
    monkeypatch.setattr("keras_dml.search.annoy_neighbors.checked_annoy", None)
    with pytest.raises(ValueError, match=r"index\.ann has SHA-256"):
        load_neighbors(tmp_path / "index")


@pytest.mark.parametrize("count", [1, 2, 5, 13, 14, 15, 40])
@pytest.mark.parametrize("trees", [1, 2, 50])
@pytest.mark.parametrize("metric", ["cosine", "hamming"])
def test_few_rows_come_back_though_annoy_counts_their_trees_otherwise(
    count, trees, metric, tmp_path
):
    rows, queries = embeddings(count), embeddings(9, seed=1)
    if metric == "hamming":
        rows, queries = binary_codes(rows), binary_codes(queries)
    index = AnnoyNeighbors(trees)
    index.build(rows)
    before = index.search(queries, 3)
    index.save(tmp_path / "index")
    loaded = load_neighbors(tmp_path / "index")
    assert loaded.parameters == index.parameters
    for found, expected in zip(loaded.search(queries, 3), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    loaded.save(tmp_path / "copy")
    files = [tmp_path / name / "index.ann" for name in ("index", "copy")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    "settings", [{"trees": 0}, {"search_k": 0}, {"seed": -1}, {"seed": 2**31}]
)
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} must be an integer"):
        AnnoyNeighbors(**settings)


@pytest.mark.parametrize("name", ["trees", "seed"])
def test_what_the_index_was_built_with_cannot_be_changed(name):
    index = AnnoyNeighbors()
    parameters = index.parameters
    with pytest.raises(AttributeError, match=name):
        setattr(index, name, 3)
    assert index.parameters == parameters


@pytest.fixture
def unchecked():
    """Annoy as a new process finds it, not checked yet."""
    checked_annoy.cache_clear()
    yield
    checked_annoy.cache_clear()


@pytest.mark.usefixtures("unchecked")
def test_installed_annoy_passes():
    assert checked_annoy() is annoy


@pytest.mark.usefixtures("unchecked")
def test_annoy_that_returns_one_neighbor_is_refused(monkeypatch):
    class OneNeighbor:
        def __init__(self, dim, metric):
            self.index = annoy.AnnoyIndex(dim, metric)

        def __getattr__(self, name):
            return getattr(self.index, name)

        def get_nns_by_vector(self, *arguments):
            return self.index.get_nns_by_vector(*arguments)[:1]

    broken = types.SimpleNamespace(AnnoyIndex=OneNeighbor)
    monkeypatch.setitem(sys.modules, "annoy", broken)
    with pytest.raises(
        RuntimeError, match=r"found \[0\] where \[0, 1, 2, 3, 4\]"
    ) as error:
        checked_annoy()
    assert "--no-binary annoy annoy==1.17.3" in str(error.value)


@pytest.mark.usefixtures("unchecked")
def test_check_runs_once_a_process(monkeypatch):
    checked_annoy()
    monkeypatch.setitem(sys.modules, "annoy", None)
    assert checked_annoy() is annoy


@pytest.mark.usefixtures("unchecked")
def test_missing_annoy_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "annoy", None)
    with pytest.raises(ImportError, match=r"pip install annoy==1\.17\.3"):
        checked_annoy()
