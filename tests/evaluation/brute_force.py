"""Similarities one pair at a time, to compare with."""

import numpy as np


def brute_force(queries, gallery):
    """The cosine in float64, or for uint8 minus the Hamming distance: (n, m)."""
    if queries.dtype == np.uint8:
        distances = [
            [sum((int(a) ^ int(b)).bit_count() for a, b in zip(q, g, strict=True))
             for g in gallery]
            for q in queries
        ]  # fmt: skip
        return -np.array(distances, float)
    queries, gallery = queries.astype(float), gallery.astype(float)
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(gallery, axis=1)
    return queries @ gallery.T / lengths
