"""Opens a saved index of any kind."""

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
    """Opens an index of whichever kind was saved in a folder.

    Nothing is unpickled, and no code is run from the files. Those that version 0.1
    wrote load as well.

    Args:
        folder: what the `save` of an index wrote. It must stay as long as the index is
            used.

    Returns:
        The index, with its parameters, ids and calibration.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if the files are damaged or do not belong together.
        ImportError: if the library of the index is not installed.

    Example:
        >>> index = AnnoyNeighbors(trees=10)
        >>> index.build(np.eye(4))
        >>> index.save("index")
        >>> load_neighbors("index").parameters
        {'trees': 10, 'search_k': 2000, 'seed': 0}
    """
    folder = pathlib.Path(folder)
    record = read_sealed_folder(folder)
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(
            f"{folder / RECORD_FILE} has kind = {kind!r}; this version opens "
            f"{', '.join(_KINDS)}. Pass the folder of an index, or build it again."
        )
    return _KINDS[kind].from_record(folder, record)
