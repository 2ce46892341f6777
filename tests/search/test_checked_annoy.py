import sys
import types

import annoy
import pytest

from keras_dml.search.annoy_neighbors import checked_annoy


@pytest.fixture(autouse=True)
def forget_the_check():
    checked_annoy.cache_clear()
    yield
    checked_annoy.cache_clear()


def test_installed_annoy_passes():
    assert checked_annoy() is annoy


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


def test_check_runs_once_a_process(monkeypatch):
    checked_annoy()
    monkeypatch.setitem(sys.modules, "annoy", None)
    assert checked_annoy() is annoy


def test_missing_annoy_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "annoy", None)
    with pytest.raises(ImportError, match=r"pip install annoy==1\.17\.3"):
        checked_annoy()
