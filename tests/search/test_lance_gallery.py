import pathlib
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from keras_dml.evaluation import embed
from keras_dml.search import LanceGallery
from keras_dml.search import load_gallery
from keras_dml.search._lance_sample import LanceSample

pytest.importorskip("lancedb", reason="a gallery that grows is LanceDB's")

NAMES = ("O'Hara's", 'the "dog"', "Grüße 猫", "")


def rows(count, dim=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim))


def cosines(queries, gallery):
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery)]
    return unit[0] @ unit[1].T


@pytest.fixture
def gallery(tmp_path):
    """60 images, with ids "'0'", "'1'", … and their number as a column."""
    gallery = LanceGallery.create(
        tmp_path / "gallery", 8, 14, 16, {"number": int, "sharp": bool}
    )
    put(gallery, np.arange(60))
    return gallery


def put(gallery, numbers, seed=0):
    gallery.put_embeddings(
        rows(100, seed=seed)[numbers],
        [f"'{number}'" for number in numbers],
        [NAMES[number % 4] for number in numbers],
        {"number": numbers, "sharp": numbers % 2 == 0},
    )


def numbers_of(matches):
    return [[int(name[1:-1]) for name in names if name] for names in matches.names]


def test_nearest_are_those_of_numpy(gallery):
    queries = rows(5, seed=1)
    expected = cosines(queries, rows(100)[:60])
    order = np.argsort(-expected, axis=1)
    matches = gallery.search_embeddings(queries, 7)
    assert numbers_of(matches) == order[:, :7].tolist()
    assert matches.scores.dtype == np.float32
    np.testing.assert_allclose(
        matches.scores, np.take_along_axis(expected, order[:, :7], 1), atol=1e-6
    )
    assert matches.classes.tolist() == [
        [NAMES[number % 4] for number in numbers] for numbers in order[:, :7]
    ]


def test_codes_are_searched_by_the_bits_that_differ(gallery):
    queries = rows(5, seed=1)
    differ = ((queries[:, None] > 0) != (rows(100)[:60] > 0)).sum(axis=2)
    matches = gallery.search_embeddings(queries, 60, codes=True)
    np.testing.assert_array_equal(matches.scores, -np.sort(differ, axis=1))
    for query, numbers in enumerate(numbers_of(matches)):
        np.testing.assert_array_equal(-differ[query, numbers], matches.scores[query])


@pytest.mark.parametrize(
    ("where", "meets"),
    [
        ("class = 'O''Hara''s'", lambda number: number % 4 == 0),
        ("class = 'Grüße 猫' AND number > 30", lambda n: n % 4 == 2 and n > 30),
        ("sharp", lambda number: number % 2 == 0),
        ("number IN (3, 4)", lambda number: number in (3, 4)),
        ("number < 0", lambda number: False),
    ],
)
@pytest.mark.parametrize("codes", [False, True])
def test_only_images_that_meet_the_condition_are_found(gallery, where, meets, codes):
    matches = gallery.search_embeddings(rows(2, seed=1), 60, where=where, codes=codes)
    expected = [number for number in range(60) if meets(number)]
    assert matches.names.shape == (2, 60)
    for numbers, scores in zip(numbers_of(matches), matches.scores, strict=True):
        assert sorted(numbers) == expected
        assert np.isfinite(scores).sum() == len(expected)
        assert (scores[len(expected) :] == -np.inf).all()


@pytest.mark.parametrize("where", ["clas = 'x'", "number >", "'", "embedding"])
def test_condition_that_cannot_be_read_is_named_with_the_columns(gallery, where):
    with pytest.raises(ValueError, match=r"^where=.* 'number', 'sharp'\], with "):
        gallery.search_embeddings(rows(1), 1, where=where)


def test_images_are_replaced_by_their_ids_and_deleted(gallery):
    put(gallery, np.arange(50, 70), seed=5)
    assert len(gallery) == 70
    now = np.concatenate([rows(100)[:50], rows(100, seed=5)[50:70]])
    queries = rows(4, seed=2)
    expected = np.argsort(-cosines(queries, now), axis=1)[:, :9]
    assert numbers_of(gallery.search_embeddings(queries, 9)) == expected.tolist()
    assert gallery.delete(["'3'", "'60'", "no such id", "' OR true --"]) == 2
    assert len(gallery) == 68
    (found,) = numbers_of(gallery.search_embeddings(queries[:1], 100))
    assert sorted(found) == [n for n in range(70) if n not in (3, 60)]
    assert gallery.delete([]) == 0
    assert "'5'" in gallery
    assert gallery.delete(one for one in ["'5'", "'6'"]) == 2
    assert "'5'" not in gallery


def test_columns_are_read_back(gallery):
    found = gallery.read(["id", "class", "number", "embedding", "code"])
    order = np.argsort(found["number"])
    assert found["id"][order].tolist() == [f"'{number}'" for number in range(60)]
    assert found["class"][order].tolist() == [NAMES[n % 4] for n in range(60)]
    unit = rows(100)[:60] / np.linalg.norm(rows(100)[:60], axis=1, keepdims=True)
    np.testing.assert_allclose(found["embedding"][order], unit, atol=1e-6)
    np.testing.assert_array_equal(found["code"][order], np.packbits(unit > 0, axis=1))
    with pytest.raises(ValueError, match=r"columns must be of .*got 'color'"):
        gallery.read(["color"])


@pytest.mark.parametrize("make", [np.array, list])
def test_columns_take_numbers_of_numpy_and_of_python(gallery, make):
    ids = make(np.array(["a", "b"]))
    numbers, sharp = make(np.array([7, 8])), make(np.array([True, False]))
    columns = {"number": numbers, "sharp": sharp}
    gallery.put_embeddings(rows(2), ids, make(np.array(["x", "y"])), columns)
    found = gallery.read(["id", "number", "sharp"])
    at = [found["id"].tolist().index(name) for name in "ab"]
    assert found["number"][at].tolist() == [7, 8]
    assert found["sharp"][at].tolist() == [True, False]


def test_readers_see_what_is_written_after_they_opened(gallery):
    reader = load_gallery(gallery.uri)
    put(gallery, np.arange(60, 65))
    assert len(reader) == 65
    row = rows(100)[62:63]
    assert numbers_of(reader.search_embeddings(row, 1)) == [[62]]
    gallery.delete(["'62'"])
    assert numbers_of(reader.search_embeddings(row, 1)) != [[62]]


def test_empty_gallery_finds_nothing(tmp_path):
    gallery = LanceGallery.create(tmp_path / "gallery", 8, 14, 16)
    matches = gallery.search_embeddings(rows(3), 5)
    assert matches.names.shape == matches.scores.shape == (3, 0)
    assert gallery.read()["id"].shape == (0,)
    with pytest.raises(ValueError, match="of 0 images can't be calibrated"):
        gallery.calibrate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ["a"]}, "id must have a value for each of the 2 images; got 1"),
        ({"ids": ["a", "a"]}, "ids must be distinct"),
        ({"ids": ["a", ""]}, "ids must not be empty"),
        ({"ids": ["a", None]}, "ids must not be empty"),
        ({"ids": "ab"}, "id must have a value for each of the 2 images; got 'ab'"),
        ({"classes": 5}, "class must have a value for each of the 2 images; got 5"),
        (
            {"columns": {"number": [1, True], "sharp": [True, False]}},
            "number must hold integers; got True",
        ),
        (
            {"columns": {"number": [1, 2], "sharp": [1, False]}},
            "sharp must hold True or False; got 1",
        ),
        ({"ids": [1, 2]}, "id must hold text; got"),
        ({"classes": ["x"]}, "class must have a value for each of the 2 images; got 1"),
        ({"columns": None}, r"columns must be \['number', 'sharp'\].*got \[\]"),
        ({"columns": {"number": [1, 2]}}, r"columns must be .*got \['number'\]"),
        (
            {"columns": {"number": ["x", "y"], "sharp": [True, False]}},
            "number must hold integers; got",
        ),
        (
            {"columns": {"number": [1.5, 2.0], "sharp": [True, False]}},
            "number must hold integers; got",
        ),
        (
            {"columns": {"number": [2**70, 2], "sharp": [True, False]}},
            "number must hold values of int64",
        ),
        (
            {"columns": {"number": [None, 2], "sharp": [True, False]}},
            "number must have a value for each image; got None",
        ),
        ({"classes": [None, "y"]}, "class must have a value for each image; got None"),
        (
            {"columns": {"id": ["c", "d"], "number": [1, 2], "sharp": [True, False]}},
            r"columns must be \['number', 'sharp'\]",
        ),
        ({"embeddings": np.eye(2, 8) * [[1], [0]]}, "row 1 of embeddings is all zeros"),
        ({"embeddings": rows(2, 7)}, r"floats of shape \(images, 8\).*\(2, 7\)"),
        ({"embeddings": np.zeros((2, 8), np.uint8)}, "floats of shape.*uint8"),
        ({"embeddings": np.full((2, 8), np.nan)}, "must be finite"),
    ],
)
def test_what_does_not_fit_is_refused_and_adds_nothing(gallery, change, message):
    given = {
        "embeddings": rows(2),
        "ids": ["a", "b"],
        "classes": ["x", "y"],
        "columns": {"number": [1, 2], "sharp": [True, False]},
    }
    with pytest.raises(ValueError, match=message):
        gallery.put_embeddings(**{**given, **change})
    assert len(gallery) == 60


@pytest.mark.parametrize("ids", ["abc", [3], [None]])
def test_ids_to_delete_are_a_list_of_strings(gallery, ids):
    with pytest.raises(ValueError, match="ids must be a list of strings"):
        gallery.delete(ids)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": str}, "other than id, class, embedding, code, query_index, each"),
        ({"query_index": int}, "other than id, class, embedding, code, query_index"),
        ({"_distance": int}, "names that start with a letter or digit"),
        ({"": int}, "names that start with a letter or digit"),
        ({"a.b": int}, "and have no point"),
        (["year"], "columns must be a dict of types; got"),
        ({"when": bytes}, "with str, int, float or bool; got 'when'"),
    ],
)
def test_columns_of_another_kind_are_refused(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        LanceGallery.create(tmp_path / "gallery", 8, 14, 16, columns)
    assert list(tmp_path.iterdir()) == []


def test_gallery_that_is_there_is_not_written_over(gallery, tmp_path):
    with pytest.raises(FileExistsError, match="exists already, and is not empty"):
        LanceGallery.create(gallery.uri, 8, 14, 16)
    assert len(gallery) == 60
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already, and is not empty"):
        LanceGallery.create(tmp_path / "mine", 8, 14, 16)


def test_other_tables_and_nothing_are_refused(tmp_path):
    import lancedb

    lancedb.connect(tmp_path / "other").create_table("gallery", [{"x": 1}])
    with pytest.raises(ValueError, match="is not one that LanceGallery made"):
        load_gallery(tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="there is no gallery at"):
        LanceGallery.open(tmp_path / "nothing")
    with pytest.raises(ValueError, match="scheme: 'floppy'"):
        LanceGallery.create("floppy://a", 8, 14, 16)


def test_damaged_table_is_said_to_be_one(tmp_path, gallery):
    shutil.copytree(gallery.uri, tmp_path / "copy")
    for file in (tmp_path / "copy" / "gallery.lance").rglob("*.manifest"):
        file.write_bytes(b"junk")
    with pytest.raises(OSError, match=r"copy' can't be read: .* Copy it again, or ind"):
        LanceGallery.open(tmp_path / "copy")


@pytest.mark.parametrize(
    "use",
    [
        len,
        lambda gallery: gallery.read(),
        lambda gallery: gallery.kind,
        lambda gallery: "a" in gallery,
        lambda gallery: gallery.embedding("a"),
        lambda gallery: gallery.delete(["a"]),
        lambda gallery: gallery.search_embeddings(rows(1), 1),
        lambda gallery: gallery.search_embeddings(rows(1), 1, where="class = 'x'"),
        lambda gallery: put(gallery, np.arange(2)),
    ],
)
def test_gallery_that_is_gone_is_said_to_be_unreadable(gallery, tmp_path, use):
    shutil.copytree(gallery.uri, tmp_path / "copy")
    copy = LanceGallery.open(tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy")
    with pytest.raises(OSError, match="copy' can't be read: "):
        use(copy)


def test_missing_lancedb_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(ImportError, match=r'pip install "keras_dml\[gallery\]"'):
        LanceGallery.create(tmp_path / "gallery", 8, 14, 16)


def test_images_are_put_and_found(tmp_path, noise):
    keras.utils.set_random_seed(0)
    images = keras.Input((14, 14, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    embedder = keras.Model(images, keras.layers.Dense(6)(x))
    gallery = LanceGallery.create(tmp_path / "gallery", 6, 14, 16)
    gallery.put(embedder, noise.paths, classes=noise.labels.astype(str))
    matches = gallery.search(embedder, noise.paths, k=3)
    assert matches.names[:, 0].tolist() == noise.paths.tolist()
    embeddings = embed(embedder, noise, resize=16, verbose=0)
    expected = np.argsort(-cosines(embeddings, embeddings), axis=1)[:, :3]
    np.testing.assert_array_equal(matches.names, noise.paths[expected])
    (pixels,) = noise.images(14, 16)
    with pytest.raises(ValueError, match="ids are needed"):
        gallery.put(embedder, pixels.numpy())
    gallery.put(embedder, pixels.numpy()[:1], ids=["pixels"])
    found = gallery.search(embedder, pathlib.Path(noise.paths[0]), k=2)
    assert {"pixels", noise.paths[0]} == {*found.names[0]}


def clustered(count, dim=16, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(40, dim))
    return centers[rng.integers(0, 40, count)] + rng.normal(size=(count, dim)) / 2


@pytest.fixture
def large(tmp_path):
    gallery = LanceGallery.create(tmp_path / "large", 16, 14, 16)
    ids = [str(row) for row in range(2000)]
    gallery.put_embeddings(clustered(2000), ids)
    return gallery


def test_calibrated_search_agrees_as_it_says(large):
    assert (large.kind, large.calibration) == ("exact", None)
    reader = load_gallery(large.uri)
    assert reader.kind == "exact"
    found = large.calibrate(k=10, target=0.9, seed=3)
    assert found == large.calibration == reader.calibration
    assert large.kind == reader.kind == "lance"
    assert found.reached
    assert found.agreement >= 0.9
    assert (found.k, found.queries, found.seed) == (10, 1000, 3)
    queries = clustered(2000)[:500]
    nearest = np.argsort(-cosines(queries, clustered(2000)), axis=1)[:, 1:11]
    ids = reader.search_embeddings(queries, 11).names
    shares = [
        len({*names} & {*expected.astype(str)}) / 10
        for names, expected in zip(ids, nearest, strict=True)
    ]
    assert abs(np.mean(shares) - found.agreement) < 0.03
    exact = reader.search_embeddings(queries[:20], 11, exact=True).names
    np.testing.assert_array_equal(exact[:, 1:].astype(int), nearest[:20])


@pytest.fixture
def codes_of_few(monkeypatch):
    """Lets an index keep codes where there are fewer images than that pays for."""
    monkeypatch.setattr("keras_dml.search.lance_gallery._LEAST_CODES", 0)


@pytest.mark.parametrize("dim", [pytest.param(128, marks=pytest.mark.slow), 30])
def test_calibration_holds_with_codes_and_where_there_are_none(
    tmp_path, dim, codes_of_few
):
    embeddings = clustered(3000, dim)
    queries = clustered(3100, dim)[3000:]
    nearest = np.argsort(-cosines(queries, embeddings), axis=1)[:, :10]
    gallery = LanceGallery.create(tmp_path / "gallery", dim, 14, 16)
    gallery.put_embeddings(embeddings, [str(row) for row in range(3000)])
    assert gallery.calibrate(k=10, target=0.95).reached
    (index,) = gallery._table.list_indices()
    assert index.index_type == ("IvfRq" if dim == 128 else "IvfFlat")
    found = gallery.search_embeddings(queries, 10)
    ids = found.names.astype(int)
    shares = [
        len({*one} & {*exact}) / 10 for one, exact in zip(ids, nearest, strict=True)
    ]
    assert np.mean(shares) >= 0.93
    # Codes choose, embeddings give the score.
    of_found = np.take_along_axis(cosines(queries, embeddings), ids, axis=1)
    np.testing.assert_allclose(found.scores, of_found, atol=1e-6)


@pytest.mark.slow
def test_calibration_of_a_hard_target_compares_with_every_image(large, codes_of_few):
    found = large.calibrate(k=10, target=1.0)
    assert found.reached
    (index,) = large._table.list_indices()
    assert index.index_type == "IvfFlat"
    assert found.agreement == 1.0


@pytest.mark.parametrize("least_codes", [0, 2001])
def test_images_put_after_calibration_are_found(large, least_codes, monkeypatch):
    monkeypatch.setattr("keras_dml.search.lance_gallery._LEAST_CODES", least_codes)
    large.calibrate(k=5, target=0.9)
    (index,) = large._table.list_indices()
    assert index.index_type == ("IvfFlat" if least_codes else "IvfRq")
    new = 10 * rows(3, 16, seed=9)
    large.put_embeddings(new, ["a", "b", "c"])
    assert large.search_embeddings(new, 1).names.tolist() == [["a"], ["b"], ["c"]]
    large.optimize()
    assert large.kind == "lance"
    assert large.search_embeddings(new, 1).names.tolist() == [["a"], ["b"], ["c"]]
    large.delete(["a"])
    assert large.search_embeddings(new, 1).names[0, 0] != "a"


def test_sample_follows_from_seed_and_images_in_whatever_order_they_came(tmp_path):
    ids, embeddings = np.arange(1500).astype(str), clustered(1500)

    def drawn(name, order, seed):
        gallery = LanceGallery.create(tmp_path / name, 16, 14, 16)
        gallery.put_embeddings(embeddings[order], ids[order])
        return LanceSample(gallery._nearest, gallery._table, 5, seed)

    rows = np.random.default_rng(0).permutation(1500)
    first, again = drawn("a", np.arange(1500), 0), drawn("b", rows, 0)
    assert len(set(first.ids)) == 1000
    np.testing.assert_array_equal(first.ids, again.ids)
    np.testing.assert_array_equal(first.queries, again.queries)
    assert len({*first.ids} & {*drawn("c", rows, 1).ids}) in range(600, 730)


def test_new_calibration_takes_the_place_of_the_old(large):
    large.calibrate(k=5, target=0.5)
    second = large.calibrate(k=7, target=0.8)
    assert load_gallery(large.uri).calibration == second
    assert len(large._table.list_indices()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "wait", [0.0, *(pytest.param(one, marks=pytest.mark.long) for one in (0.05, 0.3))]
)
def test_gallery_of_a_killed_writer_is_as_before_or_after(tmp_path, wait):
    gallery = LanceGallery.create(tmp_path / "gallery", 8, 14, 16)
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.search.put_forever", gallery.uri],
            stdout=subprocess.PIPE,
        )
        for _ in range(3):
            assert writer.stdout.readline() == b"put\n"
        time.sleep(wait)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        found = load_gallery(gallery.uri).read()
        assert len(found["id"]) >= 150
        _, counts = np.unique(found["class"], return_counts=True)
        assert (counts == 50).all()
        assert len({*found["id"]}) == len(found["id"])


def test_damaged_table_is_one_error(gallery):
    for file in pathlib.Path(gallery.uri).rglob("data/*.lance"):
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(OSError, match=r"the gallery at .* can't be read: "):
        load_gallery(gallery.uri).search_embeddings(rows(2), 3)
