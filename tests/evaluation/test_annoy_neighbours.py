import json

import numpy as np
import pytest

from keras_dml.evaluation import AnnoyNeighbours
from keras_dml.evaluation import nearest_neighbours


def embeddings(rows=200, dim=12, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, dim))


def built(**settings):
    index = AnnoyNeighbours(12, **settings)
    index.build(embeddings())
    return index


@pytest.fixture
def saved(tmp_path):
    built(trees=7, search_k=900, seed=3).save(tmp_path / "index")
    return tmp_path / "index"


def edit_record(folder, **changes):
    record = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(record | changes))


def test_exhaustive_search_finds_the_exact_neighbours():
    queries = embeddings(20, seed=1)
    ids, similarities = built(search_k=10**6).search(queries, 5)
    exact_ids, exact_similarities = nearest_neighbours(queries, embeddings(), 5)
    assert (ids.dtype, similarities.dtype) == (np.int64, np.float32)
    np.testing.assert_array_equal(ids, exact_ids)
    np.testing.assert_allclose(similarities, exact_similarities, atol=1e-6)


def test_first_neighbour_does_not_depend_on_how_many_are_asked_for():
    index = AnnoyNeighbours(12, trees=2, search_k=20)
    index.build(embeddings(2000))
    queries = embeddings(50, seed=1)
    one, _ = index.search(queries, 1)
    many, _ = index.search(queries, 10)
    np.testing.assert_array_equal(one[:, 0], many[:, 0])


def test_search_k_defaults_to_200_nodes_a_tree():
    assert AnnoyNeighbours(12, trees=30).search_k == 6000


def test_missing_neighbours_are_padded():
    index = AnnoyNeighbours(2)
    index.build([[1.0, 0.0], [0.0, 1.0]])
    ids, similarities = index.search([[2.0, 0.0]], 4)
    assert ids.tolist() == [[0, 1, -1, -1]]
    np.testing.assert_allclose(similarities, [[1, 0, -np.inf, -np.inf]], atol=1e-6)


def test_zero_embedding_has_cosine_zero():
    index = AnnoyNeighbours(2)
    index.build([[0.0, 0.0], [1.0, 0.0]])
    _, similarities = index.search([[1.0, 0.0], [0.0, 0.0]], 2)
    np.testing.assert_allclose(similarities, [[1, 0], [0, 0]], atol=1e-6)


def test_building_again_replaces_what_was_indexed():
    index = built()
    index.build(embeddings(3))
    assert index.count == 3


def test_index_comes_back_as_it_was_saved(saved):
    original = built(trees=7, search_k=900, seed=3)
    loaded = AnnoyNeighbours.load(saved)
    for name in ("dim", "trees", "search_k", "seed", "count"):
        assert getattr(loaded, name) == getattr(original, name)
    queries = embeddings(20, seed=1)
    for found, expected in zip(
        loaded.search(queries, 5), original.search(queries, 5), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_saved_folder_holds_two_files_and_nothing_is_left_beside_it(saved):
    assert sorted(file.name for file in saved.iterdir()) == ["index.ann", "index.json"]
    assert list(saved.parent.iterdir()) == [saved]


def test_index_still_answers_after_it_is_saved(tmp_path):
    index = built()
    before, _ = index.search(embeddings(5), 3)
    index.save(tmp_path / "new" / "parents" / "index")
    np.testing.assert_array_equal(index.search(embeddings(5), 3)[0], before)


def test_loaded_index_can_be_saved_again(saved, tmp_path):
    AnnoyNeighbours.load(saved).save(tmp_path / "copy")
    for name in ("index.ann", "index.json"):
        assert (tmp_path / "copy" / name).read_bytes() == (saved / name).read_bytes()


def test_one_seed_gives_one_file(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        built(seed=seed).save(tmp_path / name)
    first, same, other = ((tmp_path / n / "index.ann").read_bytes() for n in "abc")
    assert first == same
    assert first != other


def test_existing_folder_is_not_overwritten(tmp_path):
    with pytest.raises(FileExistsError, match="exists already"):
        built().save(tmp_path)


def test_failed_save_leaves_nothing_behind(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError("No space left on device")

    index = built()
    monkeypatch.setattr("keras_dml.evaluation.annoy_neighbours._sha256", full_disk)
    with pytest.raises(OSError, match="No space left"):
        index.save(tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["index.ann", "index.json"])
def test_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing"):
        AnnoyNeighbours.load(saved)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: b"",
    ],
    ids=["cut short", "too long", "one bit flipped", "empty"],
)
def test_damaged_index_is_refused_before_annoy_maps_it(saved, damage, monkeypatch):
    file = saved / "index.ann"
    file.write_bytes(damage(file.read_bytes()))
    monkeypatch.setattr("keras_dml.evaluation.annoy_neighbours.checked_annoy", None)
    with pytest.raises(
        ValueError, match=r"index\.ann has SHA-256 .* but .*index\.json"
    ):
        AnnoyNeighbours.load(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "has format_version = 2; only 1 can be read"),
        ({"metric": "euclidean"}, "has metric = 'euclidean'; only 'angular'"),
        ({"dim": 13}, "index.json says|holds"),
        ({"dim": "12"}, "is damaged: dim must be an integer"),
        ({"search_k": 0}, "is damaged: search_k must be an integer"),
        ({"count": 199}, "holds count = 200, but .* says 199"),
        ({"trees": 8}, "holds trees = 7, but .* says 8"),
        ({"sha256": "0" * 64}, "but .* says 0000"),
    ],
)
def test_record_that_does_not_fit_the_index_is_refused(saved, changes, message):
    edit_record(saved, **changes)
    with pytest.raises(ValueError, match=message):
        AnnoyNeighbours.load(saved)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "format_version = None"),
    ],
)
def test_record_that_is_no_record_is_refused(saved, text, message):
    (saved / "index.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        AnnoyNeighbours.load(saved)


def test_record_lacking_a_field_is_refused(saved):
    record = json.loads((saved / "index.json").read_text())
    del record["count"]
    (saved / "index.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="lacks 'count'"):
        AnnoyNeighbours.load(saved)


def test_other_width_is_refused():
    with pytest.raises(ValueError, match=r"queries must have shape \(n, 12\)"):
        built().search(np.ones((1, 13)), 1)
    with pytest.raises(ValueError, match=r"embeddings must have shape \(n, 12\)"):
        AnnoyNeighbours(12).build(np.ones((1, 13)))


def test_more_items_than_annoy_can_number_are_refused(monkeypatch):
    monkeypatch.setattr("keras_dml.evaluation.annoy_neighbours._LARGEST_INT32", 10**5)
    index = AnnoyNeighbours(1)
    with pytest.raises(ValueError, match="100001 rows; Annoy numbers its items"):
        index.build(np.ones((100_001, 1), np.float16))


@pytest.mark.parametrize("use", [lambda i: i.search([[1.0]], 1), lambda i: i.save("x")])
def test_empty_index_says_that_it_must_be_built(use):
    index = AnnoyNeighbours(1)
    assert index.count == 0
    with pytest.raises(RuntimeError, match="Call `build` first"):
        use(index)


@pytest.mark.parametrize(
    "settings",
    [{"dim": 0}, {"trees": 0}, {"search_k": 0}, {"seed": -1}, {"seed": 2**31}],
)
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} must be an integer"):
        AnnoyNeighbours(**{"dim": 4} | settings)
