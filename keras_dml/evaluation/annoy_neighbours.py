"""Approximate nearest neighbours through Annoy."""

import hashlib
import json
import pathlib
import shutil
import uuid

import numpy as np
import numpy.typing as npt

from keras_dml.evaluation.checked_annoy import checked_annoy
from keras_dml.evaluation.checked_embeddings import checked_floats
from keras_dml.evaluation.checked_integer import checked_integer
from keras_dml.evaluation.unit_rows import unit_rows

_FORMAT_VERSION = 1
_METRIC = "angular"
_INDEX_FILE = "index.ann"
_RECORD_FILE = "index.json"
_LARGEST_INT32 = 2**31 - 1
_SEARCH_K_A_TREE = 200


class AnnoyNeighbours:
    """An index of embeddings that finds most of the nearest ones, by cosine.

    A forest of random splits, built by one thread, so that one seed on one machine
    gives one file, byte for byte. Rows are scaled to unit length first; their number
    in `build` is their id.

    Say how far to trust what it finds: measure its `agreement` with
    `nearest_neighbours`, which is the faster of the two up to about 100,000 vectors.

    Args:
        dim: width of the embeddings, at least 1.
        trees: trees in the forest, at least 1. More find more, for more memory.
        search_k: tree nodes a search inspects, at least 1. More find more, for more
            time. Defaults to 200 × `trees`; Annoy's own default, k × `trees`, would
            make the first neighbour depend on how many are asked for.
        seed: 0 … 2^31 − 1, for the random splits.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> index = AnnoyNeighbours(2)
        >>> index.build([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
        >>> ids, similarities = index.search([[0.1, 0.9]], k=2)
        >>> ids.tolist()
        [[1, 2]]

    Reference:
        [Annoy](https://github.com/spotify/annoy)
    """

    def __init__(
        self, dim: int, trees: int = 50, search_k: int | None = None, seed: int = 0
    ):
        """Checks the arguments; the class docstring has them."""
        self.dim = checked_integer(dim, "dim", 1)
        self.trees = checked_integer(trees, "trees", 1, _LARGEST_INT32)
        if search_k is None:
            search_k = min(_SEARCH_K_A_TREE * self.trees, _LARGEST_INT32)
        self.search_k = checked_integer(search_k, "search_k", 1, _LARGEST_INT32)
        self.seed = checked_integer(seed, "seed", 0, _LARGEST_INT32)
        self._index = None

    @property
    def count(self) -> int:
        """Embeddings in the index, 0 before it is built."""
        return 0 if self._index is None else self._index.get_n_items()

    def build(self, embeddings: npt.ArrayLike) -> None:
        """Indexes embeddings, in place of any indexed before.

        Args:
            embeddings: (n, dim) float16, float32 or float64, n up to 2^31 − 1.

        Raises:
            ValueError: if they are empty or not finite, or of another shape or type.
            ImportError: if annoy is not installed.
            RuntimeError: if the installed annoy does not find what it should.
        """
        embeddings = self._checked(embeddings, "embeddings")
        if len(embeddings) > _LARGEST_INT32:
            raise ValueError(
                f"embeddings has {len(embeddings)} rows; Annoy numbers its items in "
                f"int32, up to {_LARGEST_INT32}. Build several indexes."
            )
        index = checked_annoy().AnnoyIndex(self.dim, _METRIC)
        index.set_seed(self.seed)
        for item, row in enumerate(unit_rows(embeddings)):
            index.add_item(item, row.tolist())
        index.build(self.trees, n_jobs=1)
        self._index = index

    def search(self, queries: npt.ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds about k of the embeddings most similar to each query.

        A query that is itself in the index finds itself: ask for one more, and leave it
        out by its id with `without_self`.

        Args:
            queries: (n, dim) float16, float32 or float64.
            k: neighbours to find, at least 1.

        Returns:
            ids, int64 (n, k), and cosines, float32 (n, k), best first. Where Annoy
            found fewer than k the rest is id −1 and cosine −inf, which sorts last.

        Raises:
            ValueError: if queries are empty or not finite, or of another shape or type,
                or k is below 1.
            RuntimeError: if nothing has been built or loaded.
        """
        index = self._built()
        queries = self._checked(queries, "queries")
        k = checked_integer(k, "k", 1)
        ids = np.full((len(queries), k), -1, np.int64)
        similarities = np.full((len(queries), k), -np.inf, np.float32)
        most = min(k, self.count)
        for query, row in enumerate(unit_rows(queries)):
            found, distances = index.get_nns_by_vector(
                row.tolist(), most, self.search_k, include_distances=True
            )
            ids[query, : len(found)] = found
            # Annoy's angular distance is the chord between unit vectors.
            similarities[query, : len(found)] = 1 - np.square(distances) / 2
        return ids, similarities

    def save(self, folder: str | pathlib.Path) -> None:
        """Writes the index to a new folder, whole or not at all.

        The folder holds `index.ann`, Annoy's own file, and `index.json`, the settings
        and the SHA-256 of `index.ann`.

        Args:
            folder: a path that does not exist yet; parents are made.

        Raises:
            FileExistsError: if something is there.
            RuntimeError: if nothing has been built or loaded.
        """
        index = self._built()
        folder = pathlib.Path(folder)
        if folder.exists():
            raise FileExistsError(
                f"{folder} exists already. Remove it, or save to another folder."
            )
        unfinished = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        unfinished.mkdir(parents=True)
        try:
            index.save(str(unfinished / _INDEX_FILE))
            record = {
                "format_version": _FORMAT_VERSION,
                "metric": _METRIC,
                "dim": self.dim,
                "trees": self.trees,
                "search_k": self.search_k,
                "seed": self.seed,
                "count": self.count,
                "sha256": _sha256(unfinished / _INDEX_FILE),
            }
            (unfinished / _RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n")
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    @classmethod
    def load(cls, folder: str | pathlib.Path) -> "AnnoyNeighbours":
        """Opens an index that `save` wrote.

        Annoy maps its file without reading it through, and a damaged one can end the
        process; so the file's checksum is compared first.

        Args:
            folder: the folder given to `save`. `index.ann` must stay as long as the
                index is used.

        Returns:
            The index, with the settings it was saved with.

        Raises:
            FileNotFoundError: if one of its two files is missing.
            ValueError: if they are damaged or do not belong together.
            ImportError: if annoy is not installed.
            RuntimeError: if the installed annoy does not find what it should.
        """
        index_file = pathlib.Path(folder) / _INDEX_FILE
        record_file = pathlib.Path(folder) / _RECORD_FILE
        for file in (record_file, index_file):
            if not file.is_file():
                raise FileNotFoundError(
                    f"{file} is missing. Pass a folder that AnnoyNeighbours.save wrote."
                )
        record = _checked_record(record_file)
        checksum = _sha256(index_file)
        if checksum != record["sha256"]:
            raise ValueError(
                f"{index_file} has SHA-256 {checksum}, but {record_file} says "
                f"{record['sha256']}. Copy the folder again, or rebuild the index."
            )

        try:
            neighbours = cls(
                record["dim"], record["trees"], record["search_k"], record["seed"]
            )
        except ValueError as error:
            raise ValueError(f"{record_file} is damaged: {error}") from error
        index = checked_annoy().AnnoyIndex(neighbours.dim, _METRIC)
        try:
            index.load(str(index_file))
        except OSError as error:
            raise ValueError(
                f"{index_file} does not hold {neighbours.dim}-dimensional vectors as "
                f"{record_file} says: {error}. Rebuild the index."
            ) from error
        held = {"count": index.get_n_items(), "trees": index.get_n_trees()}
        for name, value in held.items():
            if value != record[name]:
                raise ValueError(
                    f"{index_file} holds {name} = {value}, but {record_file} says "
                    f"{record[name]}. Rebuild the index."
                )
        neighbours._index = index
        return neighbours

    def _checked(self, embeddings, name):
        embeddings = checked_floats(embeddings, name)
        if embeddings.shape[1] != self.dim:
            raise ValueError(
                f"{name} must have shape (n, {self.dim}), as the index has dim "
                f"{self.dim}; got {embeddings.shape}. Use the model it was built with."
            )
        return embeddings

    def _built(self):
        if self._index is None:
            raise RuntimeError("The index is empty. Call `build` first, or `load` one.")
        return self._index


def _checked_record(file):
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}. Rebuild the index.") from error
    if not isinstance(record, dict):
        raise ValueError(f"{file} is not a JSON object. Rebuild the index.")
    expected = {"format_version": _FORMAT_VERSION, "metric": _METRIC}
    for name, value in expected.items():
        if record.get(name) != value:
            raise ValueError(
                f"{file} has {name} = {record.get(name)!r}; only {value!r} can be "
                "read. Rebuild the index."
            )
    for name in ("dim", "trees", "search_k", "seed", "count", "sha256"):
        if name not in record:
            raise ValueError(f"{file} lacks {name!r}. Rebuild the index.")
    return record


def _sha256(file):
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
