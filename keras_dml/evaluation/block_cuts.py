"""Where rows in the order of their classes are cut into blocks of one size."""

import numpy as np

_MULTIPLE = 64
# A block ends where a class does if that leaves at most this share of it empty.
_EMPTY_SHARE = 1 / 8


def block_side(sizes: np.ndarray, most: int, share: int = 1) -> int:
    """Chooses the rows of a block so that few of all blocks are left empty.

    Args:
        sizes: (classes,) how many rows each class has, 0 included; one row in all at
            least.
        most: rows of a block at most, a multiple of 64.
        share: by what the number of blocks is to be divisible, as when as many workers
            share them.

    Returns:
        A multiple of 64, up to `most`, and not far below it if there are rows enough.
    """
    rows = int(sizes.sum())
    least = -(-rows // (most * share))
    sides = dict.fromkeys(
        -(-rows // (shares * share * _MULTIPLE)) * _MULTIPLE
        for shares in range(least, least + least // 3 + 2)
    )

    def made(side):
        blocks = len(block_cuts(sizes, side)) - 1
        return -(-blocks // share) * share * side

    return min(sides, key=made)


def block_cuts(sizes: np.ndarray, side: int) -> np.ndarray:
    """Cuts rows into blocks, where classes end if that leaves little of them empty.

    Args:
        sizes: as for `block_side`.
        side: rows of a block at most.

    Returns:
        (blocks + 1,) the first row of each block, and the number of rows.
    """
    ends = np.append(0, np.cumsum(sizes))
    rows = ends[-1]
    cuts = [0]
    while cuts[-1] < rows:
        full = min(cuts[-1] + side, rows)
        with_class = int(ends[np.searchsorted(ends, full, side="right") - 1])
        fits = cuts[-1] < with_class and full - with_class <= _EMPTY_SHARE * side
        cuts.append(with_class if fits else full)
    return np.array(cuts)
