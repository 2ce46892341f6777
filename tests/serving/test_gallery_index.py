import csv
import dataclasses
import os

import numpy as np
import pytest

from keras_dml.data import ImageDataset
from keras_dml.evaluation import AnnoyNeighbours
from keras_dml.evaluation import nearest_neighbours
from keras_dml.serving import load_gallery_index
from keras_dml.serving import save_gallery_index

NAMES = ("cat, big", 'the "dog"', "Grüße 猫")
LABELS = np.arange(40) % 3


@pytest.fixture
def dataset():
    paths = [f"photos, all/{row} ü.png" for row in range(40)]
    return ImageDataset(paths, LABELS, NAMES)


@pytest.fixture
def embeddings():
    return np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


@pytest.fixture
def folder(tmp_path, dataset, embeddings):
    save_gallery_index(tmp_path / "index", embeddings, dataset)
    return tmp_path / "index"


def rows_of(folder):
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
    ids, similarities = index.neighbours.search(queries, 4)
    exact_ids, exact_similarities = nearest_neighbours(queries, embeddings, 4)
    np.testing.assert_array_equal(ids, exact_ids)
    np.testing.assert_allclose(similarities, exact_similarities, atol=1e-5)


def test_gallery_alone_is_indexed(tmp_path, dataset, embeddings):
    is_query = np.arange(40) % 4 == 0
    divided = dataclasses.replace(dataset, is_query=is_query)
    save_gallery_index(tmp_path / "index", embeddings, divided)
    index = load_gallery_index(tmp_path / "index")
    assert index.neighbours.count == 30
    rows = np.flatnonzero(~is_query)
    assert index.paths.tolist() == [
        os.path.abspath(path) for path in dataset.paths[rows]
    ]
    assert index.classes.tolist() == [NAMES[label] for label in LABELS[rows]]
    ids, _ = index.neighbours.search(embeddings[rows], 1)
    assert ids[:, 0].tolist() == list(range(30))


def test_settings_of_the_index_are_kept(tmp_path, dataset, embeddings):
    save_gallery_index(tmp_path / "index", embeddings, dataset, 7, 300, 5)
    neighbours = load_gallery_index(tmp_path / "index").neighbours
    settings = (neighbours.trees, neighbours.search_k, neighbours.seed, neighbours.dim)
    assert settings == (7, 300, 5, 6)


def test_files_are_the_documented_ones_and_no_others(folder):
    assert sorted(os.listdir(folder)) == ["images.csv", "neighbours"]
    assert os.listdir(folder.parent) == ["index"]
    assert folder.stat().st_mode & 0o777 == 0o755
    AnnoyNeighbours.load(folder / "neighbours")


def test_existing_folder_is_refused(folder, dataset, embeddings):
    with pytest.raises(FileExistsError, match="index' exists"):
        save_gallery_index(folder, embeddings, dataset)


def test_embeddings_of_other_images_are_refused(tmp_path, dataset, embeddings):
    with pytest.raises(ValueError, match="each of the 40 images; got 39"):
        save_gallery_index(tmp_path / "index", embeddings[:-1], dataset)
    assert os.listdir(tmp_path) == []


def test_failure_leaves_nothing(tmp_path, dataset, embeddings, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(csv, "writer", fail)
    with pytest.raises(OSError, match="no space left"):
        save_gallery_index(tmp_path / "deep" / "index", embeddings, dataset)
    assert os.listdir(tmp_path / "deep") == []


@pytest.mark.parametrize("file", ["images.csv", "neighbours/index.ann"])
def test_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        load_gallery_index(folder)


def test_damaged_index_is_refused(folder):
    file = folder / "neighbours" / "index.ann"
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
    write_rows(folder, change(rows_of(folder)))
    with pytest.raises(ValueError, match=r"images\.csv.*Make the index anew"):
        load_gallery_index(folder)
