"""The similarities of a block of rows and a block of others."""

import numpy as np

from keras_dml.evaluation.comparable_rows import similarities
from keras_dml.evaluation.exact_cosines import exact_cosines_at
from keras_dml.evaluation.exact_cosines import make_exact
from keras_dml.evaluation.exact_cosines import rounding_margin

# From this share of a tile on, making all of it exact is the faster.
_MANY = 1 / 32


class Tile:
    """Similarities, from one product that may be off by its roundings, or exact.

    Args:
        rows: (n, width), as `comparable_rows` makes them.
        others: (m, width), made likewise.
        exact: whether the rows are codes, whose products are whole numbers and exact.

    Attributes:
        values: (n, m), as `similarities` gives them; may be overwritten where pairs
            are not to be compared.
        margin: how far each value may be from the exact one; 0 if they are exact.
    """

    def __init__(self, rows: np.ndarray, others: np.ndarray, exact: bool):
        """Multiplies; the class docstring has the arguments."""
        self._rows, self._others = rows, others
        self.values = similarities(rows, others)
        self.margin = 0 if exact else rounding_margin(rows.shape[1])

    @property
    def T(self) -> "Tile":  # noqa: N802
        """The same, seen from the others."""
        turned = object.__new__(Tile)
        turned._rows, turned._others = self._others, self._rows
        turned.values, turned.margin = self.values.T, self.margin
        return turned

    def is_many(self, pairs: int) -> bool:
        """Whether so many pairs are more work for `exact_at` than `make_exact` is."""
        return pairs > _MANY * self.values.size

    def exact_at(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The exact values of some pairs, (pairs,)."""
        if not self.margin:
            return self.values[rows, columns]
        return exact_cosines_at(self._rows, self._others, (rows, columns))

    def make_exact(self) -> None:
        """Makes all values exact, those aside that have been overwritten with −∞."""
        if self.margin:
            make_exact(self.values, self._rows, self._others)
            self.margin = 0
