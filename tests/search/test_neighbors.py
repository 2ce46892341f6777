"""What every kind of index promises."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml import _files
from keras_dml.evaluation import without_self
from keras_dml.search import AnnoyNeighbors
from keras_dml.search import Calibration
from keras_dml.search import ExactNeighbors
from keras_dml.search import HNSWNeighbors
from keras_dml.search import load_neighbors
from tests.evaluation.brute_force import brute_force

# Parameters that make the approximate ones exact on so few rows.
INDEXES = {
    "exact": ExactNeighbors,
    "annoy": lambda: AnnoyNeighbors(trees=20, search_k=10**6),
    "hnsw": lambda: HNSWNeighbors(ef_search=2000),
}
CALIBRATION = Calibration(5, 0.99, 0.995, True, 200, 3, 0.25, 0.125)


def rows(metric, count=300, seed=0):
    rng = np.random.default_rng(seed)
    if metric == "hamming":
        return rng.integers(0, 256, (count, 6), np.uint8)
    return rng.normal(size=(count, 10))


@pytest.fixture(params=list(INDEXES))
def kind(request):
    return request.param


@pytest.fixture(params=["cosine", "hamming"])
def metric(request):
    return request.param


def built(kind, metric, ids=None):
    index = INDEXES[kind]()
    index.build(rows(metric), ids)
    return index


@pytest.fixture
def saved(kind, metric, tmp_path):
    index = built(kind, metric, np.arange(300)[::-1] * 7)
    index.calibration = CALIBRATION
    index.save(tmp_path / "index")
    return tmp_path / "index"


def test_neighbors_are_those_of_brute_force(kind, metric):
    queries = rows(metric, 40, seed=1)
    ids, similarities = built(kind, metric).search(queries, 9)
    expected = brute_force(queries, rows(metric))
    assert (ids.dtype, similarities.dtype) == (np.int64, np.float32)
    np.testing.assert_allclose(
        similarities, -np.sort(-expected, axis=1)[:, :9], atol=2e-6
    )
    found = np.take_along_axis(expected, ids, axis=1)
    np.testing.assert_allclose(similarities, found, atol=2e-6)
    assert all(len(set(row)) == 9 for row in ids.tolist())


@pytest.mark.parametrize("k", [300, 301, 10**9])
def test_k_beyond_the_index_gives_all_of_it(kind, metric, k):
    ids, similarities = built(kind, metric).search(rows(metric, 2, seed=1), k)
    assert ids.shape == similarities.shape == (2, 300)
    assert sorted(ids[0].tolist()) == list(range(300))


def test_ids_name_the_rows_in_results(kind, metric):
    names = np.random.default_rng(5).permutation(10**12 + np.arange(300))
    queries = rows(metric, 5, seed=1)
    plain, _ = built(kind, metric).search(queries, 3)
    named, _ = built(kind, metric, names).search(queries, 3)
    np.testing.assert_array_equal(named, names[plain])


def test_building_again_replaces_rows_ids_and_calibration(kind, metric):
    index = built(kind, metric, np.arange(300) + 5)
    index.calibration = CALIBRATION
    other = "cosine" if metric == "hamming" else "hamming"
    index.build(rows(other, 30))
    assert (index.count, index.metric) == (30, other)
    assert index.ids is None
    assert index.calibration is None
    ids, _ = index.search(rows(other, 30), 1)
    np.testing.assert_array_equal(ids[:, 0], np.arange(30))


def test_failed_build_leaves_the_index_as_it_was(kind, metric, monkeypatch):
    index = built(kind, metric)
    with pytest.raises(ValueError, match="ids must be distinct"):
        index.build(rows(metric, 30), [0] * 30)
    assert index.count == 300
    assert index.search(rows(metric, 1), 300)[0].shape == (1, 300)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_memory_mapped_embeddings_are_read_in_blocks(
    kind, dtype, tmp_path, monkeypatch
):
    embeddings = rows("cosine").astype(dtype)
    np.save(tmp_path / "embeddings.npy", embeddings)
    mapped = np.load(tmp_path / "embeddings.npy", mmap_mode="r")
    monkeypatch.setattr("keras_dml.search.neighbors._BLOCK_VALUES", 10 * 64)
    index = INDEXES[kind]()
    index.build(mapped)
    ids, _ = index.search(mapped[:200], 2)
    others = without_self(ids, np.arange(200))
    expected = brute_force(embeddings[:200], embeddings)
    expected[np.arange(200), np.arange(200)] = -np.inf
    np.testing.assert_array_equal(others[:, 0], expected.argmax(axis=1))


@settings(max_examples=30)
@given(
    st.sampled_from(list(INDEXES)),
    st.lists(st.integers(0, 255), min_size=1, max_size=30),
    st.integers(0, 255),
    st.integers(1, 40),
)
def test_distances_are_right_among_ties_and_duplicates(kind, codes, query, k):
    index = INDEXES[kind]()
    index.build(np.array(codes, np.uint8)[:, None])
    ids, similarities = index.search(np.array([[query]], np.uint8), k)
    distances = [(code ^ query).bit_count() for code in codes]
    assert ids.shape == (1, min(k, len(codes)))
    found = ids[0] >= 0
    if kind != "hnsw":  # Of many duplicates a graph may reach some only.
        assert found.all()
        assert (-similarities[0]).tolist() == sorted(distances)[:k]
    assert (-similarities[0][found]).tolist() == [
        distances[row] for row in ids[0][found]
    ]
    assert len(set(ids[0][found].tolist())) == found.sum()
    assert (similarities[0][~found] == -np.inf).all()


def test_index_comes_back_as_it_was_saved(kind, metric, saved):
    original = built(kind, metric, np.arange(300)[::-1] * 7)
    queries = rows(metric, 20, seed=1)
    for loaded in (load_neighbors(saved), type(original).load(str(saved))):
        assert type(loaded) is type(original)
        for name in ("kind", "metric", "dim", "count", "parameters"):
            assert getattr(loaded, name) == getattr(original, name)
        assert loaded.calibration == CALIBRATION
        np.testing.assert_array_equal(loaded.ids, original.ids)
        for found, expected in zip(
            loaded.search(queries, 5), original.search(queries, 5), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_one_seed_gives_one_folder_byte_for_byte(kind, metric, saved, tmp_path):
    again = built(kind, metric, np.arange(300)[::-1] * 7)
    again.calibration = CALIBRATION
    again.save(tmp_path / "again")
    load_neighbors(saved).save(tmp_path / "copy")
    files = sorted(file.name for file in saved.iterdir())
    assert len(files) == 3
    for name in files:
        expected = (saved / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == expected
        assert (tmp_path / "copy" / name).read_bytes() == expected


def test_nothing_is_left_beside_a_saved_index(saved):
    assert list(saved.parent.iterdir()) == [saved]


def test_index_still_answers_after_it_is_saved(kind, metric, tmp_path):
    index = built(kind, metric)
    before, _ = index.search(rows(metric, 5), 3)
    index.save(tmp_path / "new" / "parents" / "index")
    np.testing.assert_array_equal(index.search(rows(metric, 5), 3)[0], before)


def test_failed_save_leaves_nothing_behind(kind, metric, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError("No space left on device")

    index = built(kind, metric, np.arange(300))
    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        index.save(tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_not_overwritten(kind, metric, tmp_path):
    with pytest.raises(FileExistsError, match="exists already"):
        built(kind, metric).save(tmp_path)


def damaged(saved, kind, damage):
    file = next(
        saved / name
        for name in ("index.ann", "index.faiss", "rows.npy")
        if (saved / name).is_file()
    )
    file.write_bytes(damage(file.read_bytes()))
    return file


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
def test_damaged_file_is_named_before_it_is_opened(saved, kind, damage, monkeypatch):
    file = damaged(saved, kind, damage)
    with pytest.raises(
        ValueError, match=rf"{file.name} has SHA-256 .* Copy the folder"
    ):
        load_neighbors(saved)


def test_swapped_file_of_another_index_is_refused(saved, kind, metric, tmp_path):
    other = INDEXES[kind]()
    other.build(rows(metric, seed=9), np.arange(300))
    other.save(tmp_path / "other")
    for file in (tmp_path / "other").iterdir():
        if file.name != "index.json":
            kept = (saved / file.name).read_bytes()
            (saved / file.name).write_bytes(file.read_bytes())
            with pytest.raises(ValueError, match=rf"{file.name} has SHA-256"):
                load_neighbors(saved)
            (saved / file.name).write_bytes(kept)
    load_neighbors(saved)


def test_missing_file_is_named(saved):
    names = [file.name for file in saved.iterdir()]
    for name in names:
        (saved / name).rename(saved.parent / "away")
        with pytest.raises(FileNotFoundError, match=rf"{name} is missing"):
            load_neighbors(saved)
        (saved.parent / "away").rename(saved / name)


def test_every_change_of_the_record_is_refused(saved):
    text = (saved / "index.json").read_text()

    def changes(value):
        if isinstance(value, dict):
            for name, inner in value.items():
                yield {k: v for k, v in value.items() if k != name}
                for changed in changes(inner):
                    yield {**value, name: changed}
        elif isinstance(value, str):
            yield value[:-1] + ("0" if value[-1] != "0" else "1")
        elif isinstance(value, bool):
            yield not value
        else:
            yield value + 1

    for changed in changes(json.loads(text)):
        (saved / "index.json").write_text(json.dumps(changed))
        with pytest.raises((ValueError, FileNotFoundError), match=r"index\.json"):
            load_neighbors(saved)
    (saved / "index.json").write_text(text)
    load_neighbors(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "other"}, "kind = 'other'; this version opens annoy, exact, hnsw"),
        ({"metric": "euclidean"}, "euclidean"),
        ({"dim": 50}, "does not hold"),
        ({"dim": 0}, "dim must be an integer"),
        ({"count": 299}, "does not hold"),
        ({"count": "300"}, "count must be an integer"),
        ({"parameters": {"nosuch": 1}}, "nosuch"),
        ({"parameters": None}, "is damaged"),
        ({"calibration": {"k": 3}}, "is damaged"),
        ({"files": {"../elsewhere": "0"}}, "outside its folder"),
        ({"files": []}, "lists no files"),
    ],
)
def test_record_that_was_sealed_anew_must_still_fit(saved, changes, message):
    file = saved / "index.json"
    record = json.loads(file.read_text()) | changes
    record["sha256"] = _files._sha256_of_record(record)
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message):
        load_neighbors(saved)


def test_other_kind_is_refused_by_name(kind, metric, saved):
    for cls in (AnnoyNeighbors, ExactNeighbors, HNSWNeighbors):
        if cls.kind != kind:
            with pytest.raises(ValueError, match=f"kind = '{kind}', not '{cls.kind}'"):
                cls.load(saved)


@pytest.mark.parametrize("use", [lambda i: i.search([[1.0]], 1), lambda i: i.save("x")])
def test_empty_index_says_that_it_must_be_built(kind, use):
    index = INDEXES[kind]()
    assert index.count == 0
    with pytest.raises(RuntimeError, match="Call `build` first"):
        use(index)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (np.full((3, 10), [[1.0], [1.0], [np.nan]]), "queries must be finite; row 2"),
        (np.full((3, 10), [[1.0], [np.inf], [1.0]]), "queries must be finite; row 1"),
        (np.ones((3, 11)), r"queries must have shape \(n, 10\).*; got \(3, 11\)"),
        (np.ones((3, 10), np.uint8), "queries must be float embeddings"),
        (np.ones((3, 10), int), "queries must be float16, bfloat16"),
        (np.ones(10), r"queries must have shape \(n, dim\)"),
        (np.ones((0, 10)), "at least one row"),
    ],
)
def test_queries_that_do_not_fit_are_refused(kind, queries, message):
    with pytest.raises(ValueError, match=message):
        built(kind, "cosine").search(queries, 1)


def test_embeddings_are_refused_by_an_index_of_codes(kind):
    with pytest.raises(ValueError, match="queries must be packed codes"):
        built(kind, "hamming").search(np.ones((1, 6)), 1)


@pytest.mark.parametrize("k", [0, -1, 1.0, True])
def test_k_below_one_is_refused(kind, k):
    with pytest.raises(ValueError, match="k must be an integer of at least 1"):
        built(kind, "cosine").search(rows("cosine", 1), k)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.ones((0, 4)), "at least one row"),
        (np.array([[1.0], [np.nan]]), "embeddings must be finite; row 1"),
        (np.ones((2, 2), np.int32), "embeddings must be float16"),
    ],
)
def test_embeddings_that_can_not_be_indexed_are_refused(kind, embeddings, message):
    with pytest.raises(ValueError, match=message):
        INDEXES[kind]().build(embeddings)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (range(299), r"ids must be integers of shape \(300,\)"),
        (np.zeros(300), "ids must be integers"),
        ([-1, *range(299)], "ids must lie in 0"),
        ([7, *range(299)], "ids must be distinct; 7 is there 2 times"),
        (np.arange(300, dtype=np.uint64) + 2**63, "ids must lie in 0"),
    ],
)
def test_ids_that_name_no_row_are_refused(kind, ids, message):
    with pytest.raises(ValueError, match=message):
        built(kind, "cosine", ids)


@pytest.mark.parametrize("kind", ["annoy", "hnsw"])
def test_more_rows_than_int32_numbers_are_refused(kind, monkeypatch):
    monkeypatch.setattr("keras_dml.search.Neighbors._most_rows", 299)
    with pytest.raises(ValueError, match=r"300 rows; an index of kind .* in int32"):
        built(kind, "cosine")


def test_row_of_zeros_has_cosine_zero(kind):
    index = INDEXES[kind]()
    index.build([[0.0, 0.0], [1.0, 0.0]])
    _, similarities = index.search([[1.0, 0.0], [0.0, 0.0]], 2)
    np.testing.assert_allclose(similarities, [[1, 0], [0, 0]], atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"k": 0},
        {"k": 8.0},
        {"queries": True},
        {"seed": -1},
        {"target": 1.5},
        {"target": 0},
        {"agreement": -0.1},
        {"agreement": float("nan")},
        {"agreement": "0.9"},
        {"ms_per_query": None},
        {"exact_ms_per_query": -1},
        {"reached": 1},
    ],
)
def test_calibration_with_an_impossible_value_is_refused(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"^{name} must be"):
        dataclasses.replace(CALIBRATION, **change)


def test_calibration_holds_numbers_that_json_takes():
    calibration = Calibration(
        np.int64(5),
        np.float32(0.5),
        np.float32(1),
        np.bool_(True),
        np.int64(9),
        np.int64(0),
        np.float32(0.25),
        np.float32(0.5),
    )
    values = json.loads(json.dumps(dataclasses.asdict(calibration)))
    assert Calibration(**values) == calibration
