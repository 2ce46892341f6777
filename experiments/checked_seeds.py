"""The seeds that a program is given."""

import contextlib
from collections.abc import Sequence


def checked_seeds(given: Sequence[str]) -> list[int]:
    """Makes integers of the words of `--seeds`.

    Raises:
        ValueError: if they are not distinct integers of at least 0, or there are none.
    """
    with contextlib.suppress(ValueError):
        seeds = [int(seed) for seed in given]
        if seeds and len(seeds) == len(set(seeds)) and min(seeds) >= 0:
            return seeds
    raise ValueError(
        "--seeds must be distinct integers of at least 0, such as 0,1,2; got "
        f"{','.join(given)!r}."
    )
