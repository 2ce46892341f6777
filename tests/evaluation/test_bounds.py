import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from keras_dml.evaluation import ranking_metrics
from keras_dml.evaluation import recall_at_k
from keras_dml.evaluation._ranking import bounds
from keras_dml.evaluation._ranking import counting
from keras_dml.evaluation._ranking.blocks import ClassBlocks

pytest.importorskip("faiss", reason="multiplies the pairs that bounds leave")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(counting, "SIDE", 64)


@pytest.fixture
def forced(monkeypatch):
    """Takes bounds whatever they cost, and notes each p."""
    taken = []

    class Noted(bounds.Bounds):
        def __init__(self, queries, gallery, directions):
            super().__init__(queries, gallery, directions)
            taken.append(directions.shape[1])

    monkeypatch.setattr(bounds, "Bounds", Noted)
    monkeypatch.setattr(bounds, "_LEAST_PAIRS", 0)
    monkeypatch.setattr(bounds, "_MOST_COST", np.inf)
    monkeypatch.setattr(bounds, "_MANY", 1)
    return taken


def embeddings(seed, rows, dim, decay, offset=0.0, copies=0):
    """Rows of a spectrum k^-decay, some of them copied over others, and classes."""
    rng = np.random.default_rng(seed)
    deviations = np.arange(1, dim + 1) ** (-decay / 2)
    classes = rng.integers(0, max(2, rows // 6), rows)
    centers = rng.normal(size=(classes.max() + 1, dim))
    found = (centers[classes] + rng.normal(size=(rows, dim))) * deviations + offset
    turned, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    found = (found @ turned).astype(np.float32)
    at = rng.permutation(rows)[: 2 * copies]
    found[at[:copies]] = found[at[copies:]]
    return found, classes


def unit(rows):
    rows = rows.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


ROWS = st.tuples(
    st.integers(0, 1000),  # seed
    st.integers(2, 150),  # rows
    st.integers(2, 40),  # dim
    st.sampled_from([0.0, 0.5, 1.1, 3.0, 20.0]),  # decay
    st.sampled_from([0.0, 3.0]),  # offset
    st.integers(0, 10),  # copies
)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
    ROWS, st.integers(1, 40), st.floats(-1, 1), st.booleans(), st.sampled_from([0, 20])
)
def test_no_pair_that_reaches_a_bar_is_ruled_out(given, p, bar, itself, zeros):
    rows, classes = embeddings(*given[:2], *given[2:5], min(given[5], given[1] // 2))
    rows[:zeros] = 0
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(rng.normal(size=(rows.shape[1],) * 2))
    queries = ClassBlocks(rows, classes, 64)
    gallery = queries
    if not itself:
        gallery = ClassBlocks(rows[::-1].copy(), classes[::-1].copy(), 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "_MANY", 1)
        found = bounds.Bounds(queries, gallery, turned[:, :p])
        bars = np.full(64, bar, np.float32)
        others = np.full(64, bar + 0.1, np.float32)
        for block in range(len(queries)):
            for other in range(len(gallery)):
                at, columns, cosines, exact = found.pairs(
                    found.rows(block), block, other, bars, others
                )
                left = queries.order[slice(*queries.cuts[block : block + 2])]
                right = gallery.order[slice(*gallery.cuts[other : other + 2])]
                true = unit(rows[left]) @ unit(gallery.embeddings[right]).T
                pairs = set(zip(at.tolist(), columns.tolist(), strict=True))
                reach = np.argwhere(true >= bar).tolist()
                assert pairs >= {tuple(pair) for pair in reach}
                expected = true[at, columns]
                np.testing.assert_allclose(cosines, expected, atol=found.margin)
                some = np.arange(0, len(at), 3)
                np.testing.assert_allclose(exact(some), expected[some], atol=3e-7)


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(ROWS, st.booleans(), st.sampled_from(["expected", "worst", "best"]))
def test_figures_are_those_of_the_whole_product(given, itself, ties):
    rows, classes = embeddings(*given[:2], *given[2:5], min(given[5], given[1] // 2))
    sides = (rows, classes)
    if not itself:
        cut = len(rows) // 2
        sides = rows[:cut], classes[:cut], rows[cut:], classes[cut:]
        ids = np.arange(cut), np.arange(len(rows) - cut) * 2
        sides += ((1, 2), ties, *ids)
    else:
        sides += (None, None, (1, 2), ties)
    found = []
    for forced in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(counting, "SIDE", 64)
            patch.setattr(bounds, "_LEAST_PAIRS", 0 if forced else np.inf)
            patch.setattr(bounds, "_MOST_COST", np.inf)
            patch.setattr(bounds, "_MANY", 1)
            found.append((recall_at_k(*sides), ranking_metrics(*sides)))
    assert found[0] == found[1]


@pytest.mark.parametrize("enough", [1, 3])
def test_bounds_are_taken_and_queries_left_out_once_they_missed(forced, enough):
    rows, classes = embeddings(0, 700, 48, 1.1, copies=50)
    similarity = unit(rows) @ unit(rows).T
    np.fill_diagonal(similarity, -2)
    own = classes == classes[:, None]
    best = np.where(own, similarity, -2).max(axis=1)
    # Copies tie, up to the rounding of float64.
    tied = np.abs(similarity - best[:, None]) < 1e-9
    above = ((similarity > best[:, None]) & ~tied & ~own).sum(axis=1)
    lonely = best == -2
    negatives = (tied & ~own).sum(axis=1)
    expected = np.mean((above + negatives < enough) & ~lonely)
    recall = recall_at_k(rows, classes, ks=(enough,), ties="worst")
    assert recall[f"recall@{enough}"] == pytest.approx(expected, abs=1e-12)
    assert 0.1 < expected < 0.9
    assert forced


def blocks(decay, dim=64, rows=4000):
    rows, classes = embeddings(0, rows, dim, decay)
    return ClassBlocks(rows, classes, 64)


@pytest.fixture
def few_pairs(monkeypatch):
    monkeypatch.setattr(bounds, "_LEAST_PAIRS", 0)
    monkeypatch.setattr(bounds, "_COMPARE", 0)


@pytest.mark.parametrize("all_positives", [False, True])
def test_isotropic_noise_has_no_bounds_that_pay(few_pairs, all_positives):
    flat = blocks(0.0)
    assert bounds.find_bounds(flat, flat, all_positives, 1) is None


def test_steeper_spectra_take_fewer_directions(few_pairs):
    taken = []
    for decay in (1.5, 4.0):
        steep = blocks(decay)
        found = bounds.find_bounds(steep, steep, False, 1)
        taken.append(found._query_rows.shape[1] - 1)
    assert 64 * max(bounds._SHARES) >= taken[0] > taken[1]


@pytest.mark.parametrize("power", [-120, -40, 40, 120])
def test_rows_too_long_or_short_for_a_product_are_measured_without(forced, power):
    rows, classes = embeddings(0, 300, 16, 1.1)
    expected = ranking_metrics(rows, classes)
    assert len(forced) == 1
    assert ranking_metrics(np.ldexp(rows, power), classes) == expected
    assert len(forced) == 1
