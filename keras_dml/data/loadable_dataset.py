"""What a data set of any kind must have to be trained and tested on."""

from typing import Protocol

import numpy as np
import numpy.typing as npt


class LoadableDataset(Protocol):
    """A data set that is neither image files nor arrays: labels, and rows on request.

    Any object with these two members will do; it need not inherit from this class.
    `docs/data_sets.md` has one for TFRecord files and one for a Hugging Face data set.
    If it also has `is_query`, (n,) booleans as in `ImageDataset`, and not None,
    evaluation measures those queries against the rest.

    Example:
        >>> class Squares:
        ...     labels = np.arange(12) % 3
        ...
        ...     def load(self, rows):
        ...         return np.stack([np.full((8, 8, 3), row**2) for row in rows])
        >>> batches = class_balanced_batches(Squares(), 3, 2)
        >>> batches.element_spec[0].shape
        TensorShape([6, 8, 8, 3])
    """

    @property
    def labels(self) -> npt.ArrayLike:
        """The class of each row: (n,) integers; to train on, from 0 without gaps."""

    def load(self, rows: np.ndarray) -> npt.ArrayLike:
        """Loads the rows of a batch.

        The batches of one pass are loaded one after another, never two at once. To
        decode on several cores, start threads inside.

        Args:
            rows: (batch,) int64, from 0 to n - 1, in any order, with repeats.

        Returns:
            (batch, ...), what the model takes, in the order of `rows`: of one shape and
            dtype for all rows of the data set.
        """
