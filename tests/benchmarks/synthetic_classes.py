"""Embeddings and codes of as many classes as the paper's test sets have."""

import numpy as np

DIM = 512

FLIPPED = {512: 0.295, 2048: 0.356}
"""The share of bits flipped, of codes of so many, that R@1 of 60,502 is 75 %."""


def embeddings(images, classes, spread, decay=0.0, dim=DIM):
    """Unit rows and labels, of which every class has at least two.

    The variance falls as k^-decay with the dimension k, between classes and within
    them; 0 gives isotropic noise.
    """
    rng = np.random.default_rng(0)
    labels = np.concatenate(
        [np.arange(2 * classes) % classes, rng.integers(0, classes, images)]
    )[:images]
    labels = rng.permutation(labels)
    centers = rng.standard_normal((classes, dim), dtype=np.float32)
    rows = centers[labels] + np.float32(spread) * rng.standard_normal(
        (images, dim), dtype=np.float32
    )
    if decay:
        rows *= np.arange(1, dim + 1, dtype=np.float32) ** (-decay / 2)
        # So that the directions are not the coordinates.
        turned, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
        rows = rows @ turned.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


def codes(labels, bits):
    """Packed codes around random ones, a class to each."""
    rng = np.random.default_rng(1)
    centers = rng.integers(0, 256, (labels.max() + 1, bits // 8), np.uint8)
    rows = centers[labels]
    for start in range(0, len(rows), 4096):
        block = rows[start : start + 4096]
        flipped = rng.random((len(block), bits), np.float32) < FLIPPED[bits]
        block ^= np.packbits(flipped, axis=1)
    return rows
