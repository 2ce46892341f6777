"""What all indexes of neighbors share, and how well an approximate one agrees."""

import abc
import dataclasses
import os
import pathlib
from collections.abc import Iterable
from typing import Any
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_bool
from keras_dml._checks import checked_choice
from keras_dml._checks import checked_embeddings
from keras_dml._checks import checked_integer
from keras_dml._checks import checked_number
from keras_dml._files import RECORD_FILE
from keras_dml._files import read_sealed_folder
from keras_dml._files import write_sealed_folder
from keras_dml._similarity import unit_rows

_METRICS = ("cosine", "hamming")
_IDS_FILE = "ids.npy"
_BLOCK_VALUES = 2**22


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How well an approximate index agrees with exact search, and what each costs.

    Args:
        k: neighbors that were searched for, at least 1.
        target: the `agreement` aimed at, above 0 and up to 1.
        agreement: the mean `agreement` on the sample, 0 … 1.
        reached: whether the sample shows that the target is reached, or the index
            compares every row.
        queries: how many the sample had, at least 1.
        seed: what the sample was drawn with, at least 0.
        ms_per_query: milliseconds a search took for each query of the sample, where it
            was measured.
        exact_ms_per_query: the same for exact search.

    Raises:
        ValueError: if a value is of another type or out of its range.
    """

    k: int
    target: float
    agreement: float
    reached: bool
    queries: int
    seed: int
    ms_per_query: float
    exact_ms_per_query: float

    def __post_init__(self):
        """Checks the values, which may come from a file, and makes them Python's."""
        checked = {
            "k": checked_integer(self.k, "k", 1),
            "target": checked_number(self.target, "target", above=0, most=1),
            "agreement": checked_number(self.agreement, "agreement", least=0, most=1),
            "reached": checked_bool(self.reached, "reached"),
            "queries": checked_integer(self.queries, "queries", 1),
            "seed": checked_integer(self.seed, "seed", 0),
        }
        for name in ("ms_per_query", "exact_ms_per_query"):
            checked[name] = checked_number(getattr(self, name), name, least=0)
        for name, value in checked.items():
            object.__setattr__(self, name, value)


class Neighbors(abc.ABC):
    """An index of rows, which finds those most similar to a query.

    There are three kinds: `ExactNeighbors`, `AnnoyNeighbors` and `HNSWNeighbors`. Each
    takes float embeddings, which it scales to unit length and compares by cosine, or
    packed codes as `binary_codes` gives them, compared by Hamming distance.

    Attributes:
        kind: "exact", "annoy" or "hnsw".
        metric: "cosine" or "hamming", None before `build`.
        dim: width of a row: values of an embedding, or bytes of a code.
        count: rows in the index.
        calibration: what `calibrated_neighbors` found, or None.

    Example:
        >>> index = ExactNeighbors()
        >>> index.build(np.eye(4), ids=[10, 11, 12, 13])
        >>> index.save("index")
        >>> ids, similarities = load_neighbors("index").search(np.eye(4)[:2], k=1)
        >>> ids.tolist(), similarities.tolist()
        ([[10], [11]], [[1.0], [1.0]])
    """

    kind: ClassVar[str]
    _most_rows: ClassVar[int] = 2**31 - 1
    _old_parameters: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        self.metric: str | None = None
        self.dim: int | None = None
        self.count: int = 0
        self.calibration: Calibration | None = None
        self._ids: np.ndarray | None = None
        self._index: Any = None

    @property
    @abc.abstractmethod
    def parameters(self) -> dict[str, int]:
        """The arguments of the constructor."""

    @property
    def ids(self) -> np.ndarray | None:
        """The id of each row, int64 (count,); None: its number, from 0.

        May be set, to distinct integers of at least 0.
        """
        return self._ids

    @ids.setter
    def ids(self, ids: npt.ArrayLike | None) -> None:
        self._ids = None if ids is None else checked_ids(ids, self.count)

    def build(
        self, embeddings: npt.ArrayLike, ids: npt.ArrayLike | None = None
    ) -> None:
        """Indexes rows, in place of any indexed before.

        They are read a block at a time, so that a memory-mapped `.npy` file is never
        copied whole.

        Args:
            embeddings: (n, dim) float16, bfloat16, float32 or float64, or (n, bytes)
                uint8 packed codes; n up to 2^31 − 1.
            ids: (n,) distinct integers of at least 0, which `search` gives for the
                rows. None: their numbers.

        Raises:
            ValueError: if they are empty, not finite, too many, or of another shape or
                type.
            ImportError: if the library of the index is not installed.
        """
        rows = checked_embeddings(embeddings, "embeddings")
        count, dim = rows.shape
        if count > self._most_rows:
            raise ValueError(
                f"embeddings has {count} rows; an index of kind {self.kind!r} numbers "
                f"them in int32, up to {self._most_rows}. Build several indexes."
            )
        new_ids = None if ids is None else checked_ids(ids, count)
        metric = "hamming" if rows.dtype == np.uint8 else "cosine"
        self._index = self._build(metric, dim, count, _blocks(rows))
        self.metric, self.dim, self.count = metric, dim, count
        self._ids, self.calibration = new_ids, None

    def search(self, queries: npt.ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k rows most similar to each query, or nearly.

        A query that is itself in the index finds itself: ask for one more, and leave it
        out by its id with `without_self`.

        Args:
            queries: (n, dim), of the type that was indexed; float types of different
                sizes may mix.
            k: neighbors to find, at least 1; more than there are gives all.

        Returns:
            ids, int64 (n, min(k, count)), and similarities, float32 of the same shape:
            the cosine, or minus the Hamming distance. Best first. Where an approximate
            index found fewer, the rest is id −1 and similarity −inf.

        Raises:
            ValueError: if queries are empty or not finite, or of another shape or type
                than what was indexed, or k is below 1.
            RuntimeError: if nothing has been built or loaded.
        """
        self._check_built()
        rows = self._checked_queries(queries)
        k = min(checked_integer(k, "k", 1), self.count)
        found = np.empty((len(rows), k), np.int64)
        similarities = np.empty((len(rows), k), np.float32)
        start = 0
        for block in _blocks(rows, k):
            end = start + len(block)
            found[start:end], similarities[start:end] = self._search(block, k)
            start = end
        if self._ids is not None:
            found = np.where(found >= 0, self._ids[found], -1)
        return found, similarities

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the index to a new folder, whole or not at all.

        The folder holds `index.json`, with the kind, the parameters, the calibration
        and checksums, beside the index itself.

        Args:
            folder: a path that does not exist yet; parents are made.

        Raises:
            FileExistsError: if something is there.
            OSError: if the folder cannot be made.
            RuntimeError: if nothing has been built or loaded.
        """
        self._check_built()
        record = {
            "kind": self.kind,
            "metric": self.metric,
            "dim": self.dim,
            "count": self.count,
            "parameters": self.parameters,
            "calibration": self.calibration and dataclasses.asdict(self.calibration),
        }

        def write(unfinished):
            self._write(unfinished)
            if self._ids is not None:
                np.save(unfinished / _IDS_FILE, self._ids)

        write_sealed_folder(folder, record, write)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "Neighbors":
        """Opens an index of this kind; `load_neighbors` opens one of any kind.

        Nothing is unpickled, and no code is run from the files.

        Args:
            folder: the folder given to `save`. It must stay as long as the index is
                used.

        Returns:
            The index, with its parameters, ids and calibration.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if the files are damaged or do not belong together, or hold an
                index of another kind.
            ImportError: if the library of the index is not installed.
        """
        return cls.from_record(pathlib.Path(folder), read_sealed_folder(folder))

    @classmethod
    def from_record(cls, folder: pathlib.Path, record: dict[str, Any]) -> "Neighbors":
        """Opens an index as `load` does, once its `index.json` has been read.

        Args:
            folder: the folder given to `save`.
            record: what `read_sealed_folder` gives for it.

        Returns:
            The index, with its parameters, ids and calibration.

        Raises:
            ValueError: if the files do not belong together, or hold an index of
                another kind.
            ImportError: if the library of the index is not installed.
        """
        file = folder / RECORD_FILE
        if record.get("kind") != cls.kind:
            raise ValueError(
                f"{file} has kind = {record.get('kind')!r}, not {cls.kind!r}. Open it "
                "with `load_neighbors`."
            )
        try:
            parameters = dict(**record["parameters"])
            index = cls(
                **{cls._old_parameters.get(k, k): v for k, v in parameters.items()}
            )
            count = checked_integer(record["count"], "count", 1, cls._most_rows)
            dim = checked_integer(record["dim"], "dim", 1)
            metric = checked_choice(record["metric"], "metric", _METRICS)
            calibration = record["calibration"]
            if calibration is not None:
                calibration = Calibration(**calibration)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{file} is damaged: {error!r}. Build the index again."
            ) from error
        index.metric, index.dim, index.count = metric, dim, count
        index.calibration = calibration
        try:
            index._index = index._read(folder)
            if _IDS_FILE in record["files"]:
                index.ids = np.load(folder / _IDS_FILE, allow_pickle=False)
        except (EOFError, KeyError, OSError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"{folder} does not hold what {file} says, {count} rows of {dim} under "
                f"{metric!r}: {error}. Build the index again."
            ) from error
        return index

    @abc.abstractmethod
    def _build(
        self, metric: str, dim: int, count: int, blocks: Iterable[np.ndarray]
    ) -> Any:
        """Makes the inner index of unit rows, float32, or of codes, uint8."""

    @abc.abstractmethod
    def _search(self, block: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Searches with a block as `_build` has them; row numbers and similarities."""

    @abc.abstractmethod
    def _write(self, folder: pathlib.Path) -> None:
        """Writes the inner index into a folder."""

    @abc.abstractmethod
    def _read(self, folder: pathlib.Path) -> Any:
        """Reads the inner index; ValueError if it is not of this metric, dim, count."""

    def _check_built(self):
        if self._index is None:
            raise RuntimeError("The index is empty. Call `build` first, or `load` one.")

    def _checked_queries(self, queries):
        queries = checked_embeddings(queries, "queries")
        if (queries.dtype == np.uint8) != (self.metric == "hamming"):
            indexed = "packed codes" if self.metric == "hamming" else "float embeddings"
            raise ValueError(
                f"queries must be {indexed}, as the index holds; got {queries.dtype}. "
                "Make codes of both with `binary_codes`, or of neither."
            )
        if queries.shape[1] != self.dim:
            raise ValueError(
                f"queries must have shape (n, {self.dim}), as the index has dim "
                f"{self.dim}; got {queries.shape}. Use the model it was built with."
            )
        return queries


def checked_ids(ids: npt.ArrayLike, rows: int) -> np.ndarray:
    """Returns the ids of rows as int64 (rows,), after checking them.

    Args:
        ids: (rows,) distinct integers of at least 0.
        rows: how many there must be.

    Returns:
        The same ids.

    Raises:
        ValueError: if they are anything else.
    """
    ids = np.asarray(ids)
    if ids.shape != (rows,) or ids.dtype.kind not in "iu":
        raise ValueError(
            f"ids must be integers of shape ({rows},), one a row; got {ids.dtype} of "
            f"shape {ids.shape}. Keep other names in a list of your own, by row."
        )
    if ids.min() < 0 or ids.max() > np.iinfo(np.int64).max:
        raise ValueError(
            f"ids must lie in 0 … 2^63 - 1, as -1 means nothing found; got {ids.min()} "
            f"… {ids.max()}."
        )
    ids = ids.astype(np.int64)
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) < rows:
        raise ValueError(
            f"ids must be distinct; {unique[counts.argmax()]} is there "
            f"{counts.max()} times. Give each row its own."
        )
    return ids


def _blocks(embeddings, k=1):
    """Cuts rows, or queries with k neighbors each, into blocks of bounded memory."""
    rows, dim = embeddings.shape
    step = max(1, _BLOCK_VALUES // max(dim, k))
    for start in range(0, rows, step):
        block = embeddings[start : start + step]
        is_code = block.dtype == np.uint8
        yield np.ascontiguousarray(block) if is_code else unit_rows(block)
