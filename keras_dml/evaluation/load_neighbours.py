"""An index of any kind from its folder."""

import os
import pathlib

from keras_dml.evaluation.annoy_neighbours import AnnoyNeighbours
from keras_dml.evaluation.exact_neighbours import ExactNeighbours
from keras_dml.evaluation.hnsw_neighbours import HNSWNeighbours
from keras_dml.evaluation.neighbours import Neighbours
from keras_dml.evaluation.sealed_folder import RECORD_FILE
from keras_dml.evaluation.sealed_folder import read_sealed_folder

_KINDS = {
    kind.kind: kind for kind in (AnnoyNeighbours, ExactNeighbours, HNSWNeighbours)
}


def load_neighbours(folder: str | os.PathLike) -> Neighbours:
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
