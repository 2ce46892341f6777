"""The check on neighbours that no search finds twice."""

import numpy as np


def check_distinct(ids: np.ndarray, name: str) -> None:
    """Makes sure that no row holds an id twice.

    Args:
        ids: (n, k) integers; those below 0, where nothing was found, may repeat.
        name: what the caller's signature calls them, for the error message.

    Raises:
        ValueError: if a row holds an id twice; the message has the first such row.
    """
    in_order = np.sort(ids, axis=1)
    twice = (in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)
    if twice.any():
        row, place = np.argwhere(twice)[0]
        raise ValueError(
            f"{name} must not hold an id twice in a row; row {row} holds "
            f"{in_order[row, place]} twice. Pass the ids as a search gives them, −1 "
            "where it found nothing."
        )
