import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml.evaluation import binary_codes
from keras_dml.evaluation.rank_counts import rank_counts

# `keras_dml.evaluation.rank_counts` is the module; its tiles are made small here.
module = sys.modules[rank_counts.__module__]


@pytest.fixture(autouse=True, scope="module")
def small_tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIDE", 64)
        patch.setattr(module.os, "cpu_count", lambda: 2)
        yield


def naive_counts(scores, query_classes, gallery_classes):
    """The counts from a full matrix of exact scores, a query at a time."""
    counts = []
    for row, query_class in zip(scores, query_classes, strict=True):
        own, others = (
            row[gallery_classes == query_class],
            row[gallery_classes != query_class],
        )
        own, others = own[own > -np.inf], others[others > -np.inf]
        if not len(own):
            counts.append((0, 0, 0))
            continue
        best = own.max()
        counts.append(
            [np.sum(others > best), np.sum(others == best), np.sum(own == best)]
        )
    return np.array(counts).T


@st.composite
def classes_of_many_sizes(draw):
    """Up to 300 labels in random order, of classes from 1 to 150 images."""
    sizes = draw(
        st.lists(
            st.one_of(st.integers(1, 6), st.integers(1, 150)), min_size=1, max_size=25
        )
    )
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.permutation(labels)[:300], rng


@settings(max_examples=60, deadline=None)
@given(classes_of_many_sizes(), st.sampled_from([4, 16]), st.booleans())
def test_self_retrieval_in_many_blocks_is_the_naive_definition(drawn, dim, packed):
    classes, rng = drawn
    # Of ±1, so that products are whole numbers: exact, and very often equal.
    signs = rng.choice([-1, 1], (len(classes), dim)).astype(np.float32)
    scores = signs @ signs.T
    np.fill_diagonal(scores, -np.inf)
    if packed:
        rows = binary_codes(signs)
    else:
        # Of lengths that are powers of two, so unit rows are exact too.
        rows = signs * 2.0 ** rng.integers(-3, 4, (len(classes), 1))
    found = rank_counts(rows, classes, None, classes)
    np.testing.assert_array_equal(found, naive_counts(scores, classes, classes))


@settings(max_examples=60, deadline=None)
@given(classes_of_many_sizes(), classes_of_many_sizes(), st.booleans())
def test_gallery_in_many_blocks_is_the_naive_definition(
    query_drawn, gallery_drawn, packed
):
    (query_classes, rng), (gallery_classes, _) = query_drawn, gallery_drawn
    queries = rng.choice([-1.0, 1.0], (len(query_classes), 16))
    gallery = rng.choice([-1.0, 1.0], (len(gallery_classes), 16))
    expected = naive_counts(queries @ gallery.T, query_classes, gallery_classes)
    if packed:
        queries, gallery = binary_codes(queries), binary_codes(gallery)
    found = rank_counts(queries, query_classes, gallery, gallery_classes)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dim", [3, 17, 100, 129])
@pytest.mark.parametrize("itself", [True, False])
def test_copies_of_an_image_in_another_class_tie_exactly_with_it(dim, itself):
    # Every image has a copy in its own class and one in another, far away in the order.
    rng = np.random.default_rng(dim)
    images = rng.normal(size=(150, dim)).astype(np.float32)
    rows = np.concatenate([images, images, images])
    classes = np.concatenate([np.arange(150), np.arange(150), 299 - np.arange(150)])
    gallery = None if itself else rows
    above, tied, own = rank_counts(rows, classes, gallery, classes)
    np.testing.assert_array_equal(above[:300], 0)
    np.testing.assert_array_equal(tied[:300], 1)
    np.testing.assert_array_equal(own[:300], 1 if itself else 2)


def test_memory_mapped_rows_of_half_precision(tmp_path):
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 30, 200)
    rows = rng.choice([-1, 1], (200, 16)).astype(np.float16)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    scores = rows.astype(np.float64) @ rows.T.astype(np.float64)
    np.fill_diagonal(scores, -np.inf)
    np.testing.assert_array_equal(
        rank_counts(mapped, classes, None, classes),
        naive_counts(scores, classes, classes),
    )
