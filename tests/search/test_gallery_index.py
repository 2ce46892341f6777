import csv
import dataclasses
import os
import shutil

import numpy as np
import pytest

from keras_dml._files import write_sealed_folder
from keras_dml.data import ImageDataset
from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import nearest_neighbors
from keras_dml.search import AnnoyNeighbors
from keras_dml.search import ExactNeighbors
from keras_dml.search import HNSWNeighbors
from keras_dml.search import load_gallery_index
from keras_dml.search import save_gallery_index

NAMES = ("cat, big", 'the "dog"', "Grüße 猫")
LABELS = np.arange(40) % 3


@pytest.fixture
def dataset():
    paths = [f"photos, all/{row} ü.png" for row in range(40)]
    return ImageDataset(paths, LABELS, NAMES)


@pytest.fixture
def embeddings():
    return np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


def index_of(embeddings, ids=None):
    index = AnnoyNeighbors(trees=7, search_k=300, seed=5)
    index.build(embeddings, ids)
    return index


@pytest.fixture
def folder(tmp_path, dataset, embeddings):
    save_gallery_index(tmp_path / "index", index_of(embeddings), dataset)
    return tmp_path / "index"


def read_rows(folder):
    with open(folder / "images.csv", newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def write_rows(folder, rows):
    with open(folder / "images.csv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def test_index_comes_back_with_its_images(folder, dataset, embeddings):
    index = load_gallery_index(str(folder))
    assert index.paths.tolist() == [os.path.abspath(path) for path in dataset.paths]
    assert index.classes.tolist() == [NAMES[label] for label in LABELS]
    queries = np.random.default_rng(1).normal(size=(5, 6))
    ids, similarities = index.neighbors.search(queries, 4)
    exact_ids, exact_similarities = nearest_neighbors(queries, embeddings, 4)
    np.testing.assert_array_equal(ids, exact_ids)
    np.testing.assert_allclose(similarities, exact_similarities, atol=1e-5)


def test_gallery_alone_is_indexed(tmp_path, dataset, embeddings):
    is_query = np.arange(40) % 4 == 0
    divided = dataclasses.replace(dataset, is_query=is_query)
    save_gallery_index(tmp_path / "index", index_of(embeddings[~is_query]), divided)
    index = load_gallery_index(tmp_path / "index")
    assert index.neighbors.count == 30
    rows = np.flatnonzero(~is_query)
    assert index.paths.tolist() == [
        os.path.abspath(path) for path in dataset.paths[rows]
    ]
    assert index.classes.tolist() == [NAMES[label] for label in LABELS[rows]]
    ids, _ = index.neighbors.search(embeddings[rows], 1)
    assert ids[:, 0].tolist() == list(range(30))


def test_index_of_any_kind_comes_back_as_it_was(tmp_path, dataset, embeddings):
    for index in (AnnoyNeighbors(7), ExactNeighbors(), HNSWNeighbors(ef_search=9)):
        index.build(binary_codes(embeddings))
        save_gallery_index(tmp_path / index.kind, index, dataset)
        loaded = load_gallery_index(tmp_path / index.kind).neighbors
        assert (loaded.kind, loaded.metric) == (index.kind, "hamming")
        assert loaded.parameters == index.parameters


def test_files_are_the_documented_ones_and_no_others(folder):
    assert sorted(os.listdir(folder)) == ["images.csv", "index.json", "neighbors"]
    assert os.listdir(folder.parent) == ["index"]
    assert folder.stat().st_mode & 0o777 == 0o755
    AnnoyNeighbors.load(folder / "neighbors")


def test_existing_folder_is_refused(folder, dataset, embeddings):
    with pytest.raises(FileExistsError, match="exists already"):
        save_gallery_index(folder, index_of(embeddings), dataset)


def test_embeddings_of_other_images_are_refused(tmp_path, dataset, embeddings):
    with pytest.raises(ValueError, match=r"each of the 40 images.*has 39 rows"):
        save_gallery_index(tmp_path / "index", index_of(embeddings[:-1]), dataset)
    with pytest.raises(ValueError, match=r"and no ids.*40 rows with ids"):
        index = index_of(embeddings, np.arange(40))
        save_gallery_index(tmp_path / "index", index, dataset)
    assert os.listdir(tmp_path) == []


def test_failure_leaves_nothing(tmp_path, dataset, embeddings, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(csv, "writer", fail)
    with pytest.raises(OSError, match="no space left"):
        save_gallery_index(tmp_path / "deep" / "index", index_of(embeddings), dataset)
    assert os.listdir(tmp_path / "deep") == []


def seal(folder, change):
    """Writes the folder anew after a change, with checksums that fit."""
    change()
    files = {
        file.relative_to(folder): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file != folder / "index.json"
    }

    def write(new):
        (new / "neighbors").mkdir()
        for name, content in files.items():
            (new / name).write_bytes(content)

    shutil.rmtree(folder)
    write_sealed_folder(folder, {"kind": "gallery"}, write)


def test_change_in_the_list_of_images_is_refused(folder):
    rows = read_rows(folder)
    rows[3], rows[4] = rows[4], rows[3]
    write_rows(folder, rows)
    with pytest.raises(ValueError, match=r"images\.csv has SHA-256"):
        load_gallery_index(folder)


def test_index_of_another_gallery_is_refused(folder, dataset, tmp_path):
    other = np.random.default_rng(9).normal(size=(40, 6))
    save_gallery_index(tmp_path / "other", index_of(other), dataset)
    shutil.rmtree(folder / "neighbors")
    shutil.move(tmp_path / "other" / "neighbors", folder)
    with pytest.raises(ValueError, match=r"neighbors/index\.(ann|json) has SHA-256"):
        load_gallery_index(folder)


def test_folder_without_a_list_of_images_is_refused(folder):
    with pytest.raises(ValueError, match="kind 'annoy' without a list"):
        load_gallery_index(folder / "neighbors")


@pytest.mark.parametrize("file", ["images.csv", "index.json", "neighbors/index.ann"])
def test_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        load_gallery_index(folder)


def test_damaged_index_is_refused(folder):
    file = folder / "neighbors" / "index.ann"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="SHA-256"):
        load_gallery_index(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:-1],
        lambda rows: [*rows, rows[-1]],
        lambda rows: rows[1:],
        lambda rows: [["class", "path"], *rows[1:]],
        lambda rows: rows[:1],
        lambda rows: [],
        lambda rows: [*rows[:5], rows[5][:1], *rows[6:]],
        lambda rows: [*rows[:5], [*rows[5], "more"], *rows[6:]],
        lambda rows: [row[:1] for row in rows],
    ],
    ids=[
        "row missing",
        "row too many",
        "no header",
        "columns the other way round",
        "no rows",
        "empty",
        "field missing",
        "field too many",
        "column missing",
    ],
)
def test_list_of_images_that_does_not_belong_is_refused(folder, change):
    seal(folder, lambda: write_rows(folder, change(read_rows(folder))))
    with pytest.raises(ValueError, match=r"images\.csv.*Build the index again"):
        load_gallery_index(folder)


def test_what_is_no_index_or_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"neighbors must be an index .*None"):
        save_gallery_index(tmp_path / "index", None, None)
