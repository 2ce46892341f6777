import numpy as np
import pytest

from keras_dml.evaluation import similarity_tiles


def all_scores(*arguments):
    tiles = similarity_tiles.similarity_tiles(*arguments)
    return np.concatenate([tile.copy() for _, tile in tiles])


@pytest.mark.parametrize("budget", [1, 3 * 4 * 64, 2**20])
def test_cosines_are_those_of_float64_arithmetic(monkeypatch, budget):
    monkeypatch.setattr(similarity_tiles, "TILE_BYTES", budget)
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(10, 7)), rng.normal(size=(23, 7))
    lengths = np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(gallery, axis=1))
    expected = queries @ gallery.T / lengths
    np.testing.assert_allclose(all_scores(queries, gallery), expected, atol=1e-6)


@pytest.mark.parametrize("budget", [1, 3 * 4 * 64, 2**20])
def test_codes_score_minus_their_hamming_distance(monkeypatch, budget):
    monkeypatch.setattr(similarity_tiles, "TILE_BYTES", budget)
    rng = np.random.default_rng(0)
    queries = rng.integers(0, 256, (10, 5), np.uint8)
    gallery = rng.integers(0, 256, (23, 5), np.uint8)
    expected = [
        [
            -sum((int(a) ^ int(b)).bit_count() for a, b in zip(q, g, strict=True))
            for g in gallery
        ]
        for q in queries
    ]
    np.testing.assert_array_equal(all_scores(queries, gallery), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("budget", [1, 3 * 4 * 64, 2**20])
def test_each_row_scores_minus_infinity_with_itself_alone(monkeypatch, budget, dtype):
    monkeypatch.setattr(similarity_tiles, "TILE_BYTES", budget)
    scores = all_scores(np.ones((10, 8), dtype))
    np.testing.assert_array_equal(np.isneginf(scores), np.eye(10, dtype=bool))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_tiles_follow_each_other_and_keep_to_the_budget(monkeypatch, dtype):
    monkeypatch.setattr(similarity_tiles, "TILE_BYTES", 4 * 128 * 3)
    starts, sizes = [], []
    for start, tile in similarity_tiles.similarity_tiles(np.ones((100, 4), dtype)):
        starts.append(start)
        sizes.append(tile.nbytes)
    assert starts == list(range(0, 100, 3))
    assert max(sizes) <= 4 * 128 * 3


def test_zero_row_has_cosine_zero_with_everything():
    scores = all_scores(np.zeros((1, 2)), np.array([[1.0, 2.0], [0.0, 0.0]]))
    assert scores.tolist() == [[0.0, 0.0]]
