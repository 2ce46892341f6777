"""Similarities of queries to a whole gallery, a few queries at a time."""

from collections.abc import Iterator

import numpy as np

from keras_dml.evaluation.unit_rows import unit_rows

TILE_BYTES = 64 * 2**20

# A matrix product may sum its last few columns in another order than the rest, and two
# equal gallery rows would then score differently. Padded to whole vector registers, the
# gallery has no such columns.
_ROW_MULTIPLE = 64


def similarity_tiles(
    queries: np.ndarray, gallery: np.ndarray | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the similarities of successive queries to every gallery row.

    Embeddings are compared by cosine, a zero row having cosine 0 with everything.
    Packed codes are compared by minus their Hamming distance, which float32 holds
    exactly; the padding bits of the last byte are equal in all codes and add nothing.

    All scores of one query come from one tile, by one arithmetic, and may be compared
    with each other for equality. Memory beside the inputs: one tile, at most
    `TILE_BYTES` or one row of scores, and for embeddings a float32 copy of the gallery
    (and of the queries).

    Args:
        queries: (n, dim) float or (n, bytes) uint8, checked by `checked_pair`.
        gallery: (m, dim) or (m, bytes), or None: the queries search one another, and
            each one's similarity to itself, by row, reads minus infinity.

    Yields:
        The first query's row number, and its tile: float32 (rows, m). The caller may
        write to the tile, which holds only until the next one is asked for.
    """
    packed = queries.dtype == np.uint8
    itself = gallery is None
    columns = len(queries if itself else gallery)
    if packed:
        fill = _fill_with_hamming(queries, queries if itself else gallery)
        width = 8 * queries.shape[1]
    else:
        unit_gallery = unit_rows(queries if itself else gallery, _ROW_MULTIPLE)
        unit_queries = unit_gallery[:columns] if itself else unit_rows(queries)
        fill = _fill_with_cosine(unit_queries, unit_gallery)
        width = queries.shape[1]

    padded = -(-columns // _ROW_MULTIPLE) * _ROW_MULTIPLE
    step = min(len(queries), max(1, TILE_BYTES // (4 * max(padded, width))))
    buffer = np.zeros((step, padded), np.float32)
    for start in range(0, len(queries), step):
        tile = buffer[: min(step, len(queries) - start)]
        fill(start, tile)
        if itself:
            rows = np.arange(len(tile))
            tile[rows, start + rows] = -np.inf
        yield start, tile[:, :columns]


def _fill_with_cosine(queries, gallery):
    def fill(start, tile):
        np.matmul(queries[start : start + len(tile)], gallery.T, out=tile)

    return fill


def _fill_with_hamming(queries, gallery):
    bits = 8 * gallery.shape[1]
    step = max(1, TILE_BYTES // (4 * bits))

    # Signs of ±1 and ±½ have the inner product bits/2 − distance.
    def signs(codes, scale):
        return (np.unpackbits(codes, axis=1) * np.float32(2) - 1) * np.float32(scale)

    def fill(start, tile):
        query_signs = signs(queries[start : start + len(tile)], 0.5)
        for first in range(0, len(gallery), step):
            block = signs(gallery[first : first + step], 1)
            out = tile[:, first : first + len(block)]
            np.matmul(query_signs, block.T, out=out)
        tile -= bits / 2

    return fill
