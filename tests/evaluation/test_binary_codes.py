import numpy as np
import pytest

from keras_dml.evaluation import binary_codes


def test_bits_are_set_above_zero_highest_bit_first():
    embedding = [[1.0, -1.0, 0.0, -0.0, 1e-30, 2.0, -2.0, 3.0, 4.0]]
    assert binary_codes(embedding).tolist() == [[0b10001101, 0b10000000]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 7, 8, 9, 512])
def test_unpacked_codes_are_the_signs(dtype, dim):
    embeddings = np.random.default_rng(0).normal(size=(5, dim)).astype(dtype)
    codes = binary_codes(embeddings)
    assert codes.dtype == np.uint8
    assert codes.shape == (5, -(-dim // 8))
    bits = np.unpackbits(codes, axis=1)
    np.testing.assert_array_equal(bits[:, :dim], embeddings > 0)
    assert not bits[:, dim:].any()


def test_codes_of_codes_are_refused():
    with pytest.raises(ValueError, match="embeddings must be float16"):
        binary_codes(np.ones((2, 2), np.uint8))
