import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_dml._ops import dtype_name
from keras_dml._ops import ops
from keras_dml.losses import pairwise_distances
from tests.gradients import gradients


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.booleans())
def test_equal_the_differences_lengths(seed, scale, squared):
    x = scale * np.random.default_rng(seed).normal(size=(7, 5))
    expected = np.linalg.norm(x[:, None] - x[None], axis=-1) ** (2 if squared else 1)
    found = pairwise_distances(ops.convert_to_tensor(x.astype("float32")), squared)
    atol = 1e-3 * expected.max()
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, 1e-3, atol)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("squared", [False, True])
def test_equal_rows_are_0_apart_with_a_gradient_of_0(scale, squared):
    x = np.random.default_rng(0).normal(size=(1, 300))
    x = np.repeat(scale * x, 4, axis=0).astype("float32")
    found = pairwise_distances(ops.convert_to_tensor(x), squared)
    assert not ops.convert_to_numpy(found).any()
    (gradient,) = gradients(
        keras.layers.Identity(), lambda y: ops.sum(pairwise_distances(y, squared)), x
    )
    assert not gradient.any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int32"])
def test_other_dtypes_and_arrays_are_computed_in_float32(dtype):
    corners = np.array([[0, 0], [300, 400]])
    for batch in (corners, ops.cast(ops.convert_to_tensor(corners), dtype)):
        found = pairwise_distances(batch)
        assert dtype_name(found.dtype) == "float32"
        np.testing.assert_allclose(ops.convert_to_numpy(found), [[0, 500], [500, 0]])


@pytest.mark.parametrize("squared", [False, True])
def test_distances_from_other_images(squared):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3)), rng.normal(size=(6, 3))
    y[2] = x[1]
    expected = np.linalg.norm(x[:, None] - y[None], axis=-1) ** (1 + squared)
    found = pairwise_distances(x, squared, y)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, 1e-6, 1e-7)
    assert ops.convert_to_numpy(found)[1, 2] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"squared": "no"}, "squared must be True or False; got 'no'"),
        ({"embeddings": np.ones(3)}, r"embeddings must have shape .*; got \(3,\)"),
        ({"references": np.ones(3)}, r"references must have shape .*; got \(3,\)"),
        ({"references": np.ones((2, 4))}, r"one width; got shapes \(2, 3\) and \(2, 4"),
    ],
)
def test_what_has_no_distances_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        pairwise_distances(**{"embeddings": np.ones((2, 3)), **arguments})
