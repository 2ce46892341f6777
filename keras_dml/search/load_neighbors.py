"""An index of any kind from its folder."""

import os
import pathlib

from keras_dml._files import RECORD_FILE
from keras_dml._files import read_sealed_folder
from keras_dml.search.annoy_neighbors import AnnoyNeighbors
from keras_dml.search.exact_neighbors import ExactNeighbors
from keras_dml.search.hnsw_neighbors import HNSWNeighbors
from keras_dml.search.neighbors import Neighbors

_KINDS = {kind.kind: kind for kind in (AnnoyNeighbors, ExactNeighbors, HNSWNeighbors)}


def load_neighbors(folder: str | os.PathLike) -> Neighbors:
    """Opens an index of the kind that its folder says.

    Args:
        folder: what the `save` of an index wrote. It must stay as long as the index is
            used.

    Returns:
        The index, with its parameters, ids and calibration.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if the files are damaged or do not belong together.
        ImportError: if the library of the index is not installed.
    """
    folder = pathlib.Path(folder)
    record = read_sealed_folder(folder)
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(
            f"{folder / RECORD_FILE} has kind = {kind!r}; this version opens "
            f"{', '.join(_KINDS)}. Pass the folder of an index, or build it anew."
        )
    return _KINDS[kind].opened(folder, record)
