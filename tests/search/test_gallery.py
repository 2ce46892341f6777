import csv
import dataclasses
import os
import pathlib
import shutil

import keras
import numpy as np
import pytest

from keras_dml._files import write_sealed_folder
from keras_dml.data import ImageDataset
from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import embed
from keras_dml.evaluation import nearest_neighbors
from keras_dml.search import AnnoyNeighbors
from keras_dml.search import ExactNeighbors
from keras_dml.search import HNSWNeighbors
from keras_dml.search import load_gallery
from keras_dml.search import save_gallery

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


def save(folder, embeddings, dataset, neighbors=None):
    save_gallery(folder, embeddings, dataset, 28, 32, neighbors)


@pytest.fixture
def folder(tmp_path, dataset, embeddings):
    save(tmp_path / "index", embeddings, dataset, index_of(embeddings))
    return tmp_path / "index"


def read_rows(folder):
    with open(folder / "images.csv", newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def write_rows(folder, rows):
    with open(folder / "images.csv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def test_gallery_comes_back_with_its_images(folder, dataset, embeddings):
    gallery = load_gallery(str(folder))
    assert gallery.paths.tolist() == [os.path.abspath(path) for path in dataset.paths]
    assert gallery.classes.tolist() == [NAMES[label] for label in LABELS]
    assert (len(gallery), gallery.dim) == (40, 6)
    assert (gallery.image_size, gallery.resize, gallery.kind) == (28, 32, "annoy")
    queries = np.random.default_rng(1).normal(size=(5, 6))
    rows, similarities = nearest_neighbors(queries, embeddings, 4)
    for exact in (False, True):  # so few rows are all compared by Annoy too
        matches = gallery.search_embeddings(queries, 4, exact=exact)
        np.testing.assert_array_equal(matches.names, gallery.paths[rows])
        np.testing.assert_array_equal(matches.classes, gallery.classes[rows])
        np.testing.assert_allclose(matches.scores, similarities, atol=1e-5)


def test_codes_are_searched_by_the_bits_that_differ(folder, embeddings):
    queries = np.random.default_rng(1).normal(size=(5, 6))
    matches = load_gallery(folder).search_embeddings(queries, 40, codes=True)
    differ = ((queries[:, None] > 0) != (embeddings > 0)).sum(axis=2)
    np.testing.assert_array_equal(matches.scores, -np.sort(differ, axis=1))
    gallery = load_gallery(folder)
    for query, names in enumerate(matches.names):
        rows = [gallery.paths.tolist().index(name) for name in names]
        assert sorted(rows) == list(range(40))
        np.testing.assert_array_equal(-differ[query, rows], matches.scores[query])


@pytest.mark.parametrize("options", [{}, {"codes": True}, {"exact": True}])
def test_queries_of_another_width_are_refused(folder, options):
    for queries in (np.ones((1, 5)), np.ones((1, 6), np.uint8)):
        with pytest.raises(ValueError, match=r"floats of shape \(queries, 6\)"):
            load_gallery(folder).search_embeddings(queries, 4, **options)


def test_gallery_alone_is_kept(tmp_path, dataset, embeddings):
    is_query = np.arange(40) % 4 == 0
    divided = dataclasses.replace(dataset, is_query=is_query)
    save(tmp_path / "index", embeddings[~is_query], divided)
    gallery = load_gallery(tmp_path / "index")
    rows = np.flatnonzero(~is_query)
    assert gallery.paths.tolist() == [
        os.path.abspath(path) for path in dataset.paths[rows]
    ]
    assert gallery.classes.tolist() == [NAMES[label] for label in LABELS[rows]]
    names = gallery.search_embeddings(embeddings[rows], 1).names[:, 0]
    assert names.tolist() == gallery.paths.tolist()


def test_index_of_any_kind_comes_back_as_it_was(tmp_path, dataset, embeddings):
    for index in (AnnoyNeighbors(7), ExactNeighbors(), HNSWNeighbors(ef_search=9)):
        index.build(embeddings)
        save(tmp_path / index.kind, embeddings, dataset, index)
        loaded = load_gallery(tmp_path / index.kind).neighbors
        assert loaded.kind == index.kind
        assert loaded.parameters == index.parameters


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_embeddings_of_any_float_type_are_kept(tmp_path, dataset, embeddings, dtype):
    given = embeddings.astype(dtype)
    save(tmp_path / "index", given, dataset)
    found = load_gallery(tmp_path / "index").embeddings
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, given.astype(np.float32))


def test_files_are_the_documented_ones_and_no_others(folder):
    assert sorted(os.listdir(folder)) == [
        "embeddings.npy",
        "images.csv",
        "index.json",
        "neighbors",
    ]
    assert os.listdir(folder.parent) == ["index"]
    assert folder.stat().st_mode & 0o777 == 0o755
    AnnoyNeighbors.load(folder / "neighbors")


def test_existing_folder_is_refused(folder, dataset, embeddings):
    with pytest.raises(FileExistsError, match="exists already"):
        save(folder, embeddings, dataset)


def test_embeddings_of_other_images_are_refused(tmp_path, dataset, embeddings):
    with pytest.raises(ValueError, match=r"floats of shape \(40, dim\).*\(39, 6\)"):
        save(tmp_path / "index", embeddings[:-1], dataset)
    with pytest.raises(ValueError, match=r"floats of shape \(40, dim\).*uint8"):
        save(tmp_path / "index", binary_codes(embeddings), dataset)
    assert os.listdir(tmp_path) == []


def test_index_of_other_rows_is_refused(tmp_path, dataset, embeddings):
    for index, message in (
        (index_of(embeddings[:-1]), "has 39 rows of 6"),
        (index_of(embeddings[:, :-1]), "has 40 rows of 5"),
        (index_of(binary_codes(embeddings)), "under 'hamming'"),
        (index_of(embeddings, np.arange(40)), "with ids"),
        ("annoy", "neighbors must be an index of keras_dml.search; got 'annoy'"),
    ):
        with pytest.raises(ValueError, match=message):
            save(tmp_path / "index", embeddings, dataset, index)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("side", "resize"), [(0, 32), (28, 27), (28.5, 32)])
def test_sides_are_checked(tmp_path, dataset, embeddings, side, resize):
    with pytest.raises(ValueError, match=r"image_size must|resize must"):
        save_gallery(tmp_path / "index", embeddings, dataset, side, resize)


def test_failure_leaves_nothing(tmp_path, dataset, embeddings, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(csv, "writer", fail)
    with pytest.raises(OSError, match="no space left"):
        save(tmp_path / "deep" / "index", embeddings, dataset)
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
    record = {"kind": "gallery", "image_size": 28, "resize": 32}
    write_sealed_folder(folder, record, write)


def test_change_in_the_list_of_images_is_refused(folder):
    rows = read_rows(folder)
    rows[3], rows[4] = rows[4], rows[3]
    write_rows(folder, rows)
    with pytest.raises(ValueError, match=r"images\.csv has SHA-256"):
        load_gallery(folder)


def test_index_of_another_gallery_is_refused(folder, dataset, tmp_path):
    other = np.random.default_rng(9).normal(size=(40, 6))
    save(tmp_path / "other", other, dataset, index_of(other))
    shutil.rmtree(folder / "neighbors")
    shutil.move(tmp_path / "other" / "neighbors", folder)
    with pytest.raises(ValueError, match=r"neighbors/index\.(ann|json) has SHA-256"):
        load_gallery(folder)


def test_folder_without_a_list_of_images_is_refused(folder):
    with pytest.raises(ValueError, match="kind 'annoy', and no gallery"):
        load_gallery(folder / "neighbors")


def test_gallery_of_version_0_2_is_to_be_made_again(folder):
    seal(folder, (folder / "embeddings.npy").unlink)
    with pytest.raises(
        ValueError, match=r"no gallery with its embeddings.*version 0\.2"
    ):
        load_gallery(folder)


def test_place_without_a_gallery_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no gallery in '.*nowhere'"):
        load_gallery(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "file", ["images.csv", "embeddings.npy", "neighbors/index.ann"]
)
def test_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        load_gallery(folder)


def test_damaged_index_is_refused(folder):
    file = folder / "neighbors" / "index.ann"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="SHA-256"):
        load_gallery(folder)


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
    with pytest.raises(ValueError, match=r"images\.csv.*Write the gallery again"):
        load_gallery(folder)


def test_what_is_no_data_set_is_refused(tmp_path, embeddings):
    with pytest.raises(ValueError, match="dataset must be an ImageDataset; got None"):
        save(tmp_path / "index", embeddings, None)


@pytest.fixture
def embedder():
    keras.utils.set_random_seed(0)
    images = keras.Input((14, 14, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    return keras.Model(images, keras.layers.Dense(6)(x), name="small")


@pytest.fixture
def noise_gallery(tmp_path, noise, embedder):
    embeddings = embed(embedder, noise, resize=16, verbose=0)
    save_gallery(tmp_path / "noise", embeddings, noise, 14, 16)
    return load_gallery(tmp_path / "noise")


def test_images_are_resized_and_cropped_as_the_gallery_was(
    noise_gallery, noise, embedder
):
    matches = noise_gallery.search(embedder, noise.paths, k=2)
    assert matches.names[:, 0].tolist() == noise.paths.tolist()
    np.testing.assert_allclose(matches.scores[:, 0], 1, atol=1e-5)
    one = noise_gallery.search(embedder, pathlib.Path(noise.paths[3]), k=100)
    assert one.names.shape == (1, 21)
    assert one.names[0, 0] == noise.paths[3]
    (pixels,) = noise.images(14, 16)
    by_pixels = noise_gallery.search(embedder, pixels.numpy(), k=2)
    np.testing.assert_array_equal(by_pixels.names, matches.names)
    single = noise_gallery.search(embedder, pixels.numpy()[5], k=1)
    assert single.names.tolist() == [[noise.paths[5]]]


def test_searching_again_and_again_traces_nothing_anew(noise_gallery, noise, embedder):
    noise_gallery.search(embedder, noise.paths[0])
    traced = embedder.predict_function.experimental_get_tracing_count()
    for path in noise.paths[1:5]:
        noise_gallery.search(embedder, path)
    assert embedder.predict_function.experimental_get_tracing_count() == traced


@pytest.mark.parametrize("dim", [6, 7])
def test_model_of_another_side_or_width_is_refused(noise_gallery, noise, dim):
    side = 14 if dim == 7 else 15
    images = keras.Input((side, side, 3))
    other = keras.Model(images, keras.layers.Dense(dim)(keras.layers.Flatten()(images)))
    with pytest.raises(ValueError, match=rf"of {side} pixels .* of {dim}; .* 14 and 6"):
        noise_gallery.search(other, noise.paths)


@pytest.mark.parametrize(
    "images", [[], [3], np.zeros((1, 15, 15, 3)), np.zeros((0, 14, 14, 3)), None, 3]
)
def test_what_is_no_image_is_refused(noise_gallery, embedder, images):
    with pytest.raises(ValueError, match=r"^(images|pixels) must"):
        noise_gallery.search(embedder, images)


def test_file_that_is_no_image_is_named(noise_gallery, embedder, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_text("no image")
    with pytest.raises(ValueError, match=r"can't read the image '.*broken\.jpg'"):
        noise_gallery.search(embedder, broken)
    with pytest.raises(FileNotFoundError, match=r"no image file '.*none\.jpg'"):
        noise_gallery.search(embedder, tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="k must be an integer of at least 1; got 0"):
        noise_gallery.search(embedder, broken, k=0)


def test_pixels_that_are_not_finite_are_refused(noise_gallery, embedder):
    side = noise_gallery.image_size
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="pixels must be finite"):
            noise_gallery.search(embedder, np.full((side, side, 3), wrong))


@pytest.mark.parametrize("option", ["codes", "exact"])
def test_options_are_true_or_false(folder, option):
    with pytest.raises(ValueError, match=f"{option} must be True or False; got 'no'"):
        load_gallery(folder).search_embeddings(np.ones((1, 6)), 1, **{option: "no"})


@pytest.mark.parametrize("folder", [None, 3, b"gallery"])
def test_what_is_no_path_is_refused(folder):
    with pytest.raises(ValueError, match="folder must be a path; got"):
        load_gallery(folder)
