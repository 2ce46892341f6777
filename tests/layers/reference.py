"""Values and gradients that PyTorch computed, where they are at hand."""

import pathlib

import numpy as np
import pytest

_FILE = (
    pathlib.Path(__file__)
    .parents[3]
    .joinpath("shared", "reference", "normsoftmax_reference.npz")
)


def reference(prefix):
    """The arrays whose name starts with `prefix`, by the rest; skips without them."""
    if not _FILE.is_file():
        pytest.skip("needs ../shared/reference/normsoftmax_reference.npz")
    with np.load(_FILE, allow_pickle=False) as arrays:
        return {
            name.removeprefix(prefix): arrays[name]
            for name in arrays
            if name.startswith(prefix)
        }
