"""A gallery of images that grows: a table of Lance, through LanceDB."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import os
import pathlib
import secrets
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from keras_dml._checks import checked_bool
from keras_dml._checks import checked_integer
from keras_dml._checks import checked_number
from keras_dml._similarity import unit_rows
from keras_dml.evaluation import binary_codes
from keras_dml.search._lance_sample import LanceSample
from keras_dml.search._lance_table import METADATA
from keras_dml.search._lance_table import as_numpy
from keras_dml.search._lance_table import connect
from keras_dml.search._lance_table import first_line
from keras_dml.search._lance_table import gallery_schema
from keras_dml.search._lance_table import quoted
from keras_dml.search._lance_table import scalar_column
from keras_dml.search._lance_table import vector_column
from keras_dml.search._least_effort import least_effort
from keras_dml.search._query_embeddings import checked_rows
from keras_dml.search._query_embeddings import query_embeddings
from keras_dml.search.matches import Matches
from keras_dml.search.neighbors import Calibration

if TYPE_CHECKING:
    import lancedb

_TABLE = "gallery"
_CALIBRATION_TABLE = "calibration"
_FORMAT_VERSION = 1
_IDS_AT_ONCE = 1000
_QUERIES_AT_ONCE = 50
# The embeddings of so many times k codes are compared. At a million images 5 agreed on
# 96.1, 10 on 99.0 and 20 on 99.4 %, in 20 to 23 ms; 99.7 % without codes.
_REFINED = 20
# In smaller galleries codes save less than it takes to compare embeddings as well.
_LEAST_CODES = 20_000


@dataclasses.dataclass(frozen=True)
class _Effort:
    """How far an index is searched.

    Attributes:
        nprobes: the centers around which images are compared.
        refined: how many of them at least with their embeddings, and `_REFINED` times
            k if that is more; None for all.
    """

    nprobes: int
    refined: int | None


def _with_reason(method):
    """Raises `OSError` where LanceDB finds the table gone or damaged."""

    @functools.wraps(method)
    def checked(self, *arguments, **options):
        try:
            return method(self, *arguments, **options)
        except RuntimeError as error:
            raise _unreadable(self.uri, error) from None

    return checked


class LanceGallery:
    """A gallery whose images come and go, on a local folder or object storage.

    Each image has an id, a class, its embedding, its binary code, and whatever other
    columns the gallery was created with. Images are put in, replaced and deleted by
    their ids, and searched with any condition on the columns. Each change is one commit
    of Lance's: a process that is killed leaves the gallery as it was before the change
    or as it is after, and any number of processes may read meanwhile, each search
    seeing the newest state.

    Search is exact until `calibrate` has built an index and measured how far it agrees.

    Open one with `load_gallery`, and make one with `LanceGallery.create`.

    Attributes:
        uri: where it is.
        dim: width of the embeddings.
        image_size: side of the images that the model takes, in pixels.
        resize: side that they are resized to before the crop.
        columns: what images may be filtered by: `id`, `class`, and its own columns.
        kind: "exact", or "lance" where searches go through the index of `calibrate`.
        calibration: what `calibrate` found last, or None.

    Example:
        >>> gallery = LanceGallery.create("photos", 16, image_size=28, resize=32)
        >>> gallery.put(embedder, test.paths[:4], classes=["wren", "crow"] * 2)
        >>> len(gallery)
        4
        >>> wrens = "class = 'wren'"
        >>> matches = gallery.search(embedder, test.paths[0], k=2, where=wrens)
        >>> matches.classes.tolist()
        [['wren', 'wren']]
        >>> gallery.delete([test.paths[0]])
        1
    """

    def __init__(self, uri: str, database: Any, table: lancedb.table.Table) -> None:
        self.uri = uri
        self._database = database
        self._table = table
        about = json.loads(table.schema.metadata[METADATA])
        self.dim: int = about["dim"]
        self.image_size: int = about["image_size"]
        self.resize: int = about["resize"]
        self._calibrated_version: int | None = None
        self._index: dict[str, Any] | None = None

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike,
        dim: int,
        image_size: int,
        resize: int,
        columns: Mapping[str, type] | None = None,
    ) -> LanceGallery:
        """Makes an empty gallery.

        Args:
            uri: a folder, new or empty, or a place on object storage, such as
                "s3://bucket/photos", as LanceDB takes it.
            dim: width of the embeddings, at least 1.
            image_size: side of the images that the model takes, in pixels.
            resize: side that they are resized to before the crop, at least image_size.
            columns: more columns, each with str, int, float or bool, which images may
                be filtered by.

        Returns:
            The gallery.

        Raises:
            FileExistsError: if there is a gallery already, or the folder holds files.
            ValueError: if a number is out of range, a column has another type or a name
                that can't be, or LanceDB knows no such kind of storage.
            ImportError: if LanceDB is not installed.
        """
        uri = os.path.expanduser(os.fspath(uri))
        about = {
            "format_version": _FORMAT_VERSION,
            "dim": checked_integer(dim, "dim", 1),
            "image_size": checked_integer(image_size, "image_size", 1),
            "resize": checked_integer(resize, "resize", image_size),
        }
        if not isinstance(columns, Mapping | None):
            raise ValueError(f"columns must be a dict of types; got {columns!r:.200}.")
        schema = gallery_schema(about, columns or {})
        folder = pathlib.Path(uri)
        if "://" not in uri and folder.exists() and any(folder.iterdir()):
            raise FileExistsError(
                f"uri={uri!r} exists already, and is not empty. Name a new folder, or "
                "open the gallery in it with load_gallery."
            )
        database = connect(uri)
        try:
            return cls(uri, database, database.create_table(_TABLE, schema=schema))
        except ValueError as error:
            if "already exists" not in str(error):
                raise
            raise FileExistsError(
                f"there is a gallery at uri={uri!r} already."
            ) from None

    @classmethod
    def open(cls, uri: str | os.PathLike) -> LanceGallery:
        """Opens a gallery; `load_gallery` opens one of any kind.

        Args:
            uri: what `create` was given.

        Returns:
            The gallery.

        Raises:
            FileNotFoundError: if there is none.
            OSError: if it is damaged.
            ValueError: if the table there is no gallery.
            ImportError: if LanceDB is not installed.
        """
        uri = os.path.expanduser(os.fspath(uri))
        database = connect(uri)
        try:
            table = database.open_table(_TABLE)
        except (ValueError, RuntimeError) as error:
            if "was not found" in str(error):
                raise FileNotFoundError(f"there is no gallery at {uri!r}.") from None
            raise _unreadable(uri, error) from None
        try:
            return cls(uri, database, table)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the table at {uri!r} is not one that LanceGallery made: {error!r}"
            ) from None

    @_with_reason
    def __len__(self) -> int:
        """The number of images."""
        return self._table.count_rows()

    @property
    def columns(self) -> list[str]:
        """What images may be filtered by: `id`, `class`, and its own columns."""
        names = self._table.schema.names
        return [name for name in names if name not in ("embedding", "code")]

    @property
    @_with_reason
    def kind(self) -> str:
        """How it is searched: "exact", or "lance" through the index of `calibrate`."""
        return "exact" if self._current_index() is None else "lance"

    def put(
        self,
        embedder: keras.Model,
        images: Any,
        ids: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Adds images, in place of those with the same ids.

        Args:
            embedder: the model that the gallery is for.
            images: paths of image files, or pixels, as in `search`.
            ids: what each is found by; None for files: their paths, as they are given.
            classes: the class of each; None: "".
            columns: the values of each other column, by its name.

        Raises:
            FileNotFoundError: if there is no such image file.
            ValueError: if the model is of another side or width, an image can't be
                read, there is not one id, class and value for each image, an id is
                there twice, or a column is missing or not the gallery's. Then nothing
                is added.
        """
        if isinstance(images, str | os.PathLike):
            images = [images]
        if ids is None:
            if isinstance(images, np.ndarray) and images.dtype.kind in "uif":
                raise ValueError("ids are needed, one for each image of pixels.")
            ids = [os.fspath(path) for path in images]
        embeddings = query_embeddings(
            embedder, images, self.image_size, self.resize, self.dim
        )
        self.put_embeddings(embeddings, ids, classes, columns)

    @_with_reason
    def put_embeddings(
        self,
        embeddings: npt.ArrayLike,
        ids: Sequence[str],
        classes: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Adds embeddings, in place of those with the same ids, in one commit.

        Args:
            embeddings: (images, dim) floats.
            ids: as in `put`.
            classes: as in `put`.
            columns: as in `put`.

        Raises:
            ValueError: where `put` raises, or if embeddings are not finite.
        """
        import pyarrow as pa

        rows = checked_rows(embeddings, "images", self.dim)
        _check_not_zero(rows)
        rows = unit_rows(rows)
        classes = [""] * len(rows) if classes is None else classes
        given = {**(columns or {}), "id": ids, "class": classes}
        schema = self._table.schema
        expected = self.columns
        if sorted([*(columns or ()), "id", "class"]) != sorted(expected):
            raise ValueError(
                f"columns must be {expected[2:]}, as the gallery was made with; got "
                f"{list(columns or ())}."
            )
        arrays = {
            name: scalar_column(values, name, schema.field(name).type, len(rows))
            for name, values in given.items()
        }
        if len(set(arrays["id"].to_pylist())) < len(rows):
            raise ValueError("ids must be distinct; one is there twice.")
        for name, values in (("embedding", rows), ("code", binary_codes(rows))):
            arrays[name] = vector_column(values)
        table = pa.table([arrays[name] for name in schema.names], schema=schema)
        merge = self._table.merge_insert("id")
        merge.when_matched_update_all().when_not_matched_insert_all().execute(table)

    @_with_reason
    def delete(self, ids: Sequence[str]) -> int:
        """Deletes images; ids that are not in the gallery are ignored.

        Args:
            ids: of the images.

        Returns:
            How many were deleted.

        Raises:
            ValueError: if ids is a single string, or holds something else than strings.
        """
        names = [] if isinstance(ids, str) else list(ids)
        if isinstance(ids, str) or not all(isinstance(one, str) for one in names):
            raise ValueError(f"ids must be a list of strings; got {ids!r:.200}.")
        before = len(self)
        for start in range(0, len(names), _IDS_AT_ONCE):
            some = ", ".join(map(quoted, names[start : start + _IDS_AT_ONCE]))
            self._table.delete(f"id IN ({some})")
        return before - len(self)

    @_with_reason
    def read(self, columns: Sequence[str] = ("id", "class")) -> dict[str, np.ndarray]:
        """Reads columns of all images, in no particular order.

        Args:
            columns: their names, of `id`, `class`, `embedding`, `code` and those that
                the gallery was created with.

        Returns:
            {name: (images,) values; (images, dim) and (images, bytes) of the last two}.

        Raises:
            ValueError: if there is no such column.
        """
        unknown = [name for name in columns if name not in self._table.schema.names]
        if unknown:
            raise ValueError(
                f"columns must be of {self._table.schema.names}; got {unknown[0]!r}."
            )
        found = self._table.search().select(list(columns)).to_arrow()
        return {name: as_numpy(found[name]) for name in columns}

    @_with_reason
    def __contains__(self, image_id: object) -> bool:
        """Whether an image has this id."""
        return self._table.count_rows(f"id = {quoted(str(image_id))}") > 0

    @_with_reason
    def embedding(self, image_id: str) -> np.ndarray:
        """The embedding of one image, to search for others like it.

        Args:
            image_id: its id.

        Returns:
            (dim,) float32, of length 1.

        Raises:
            KeyError: if no image has the id.
        """
        found = self._table.search().where(f"id = {quoted(image_id)}")
        rows = as_numpy(found.select(["embedding"]).to_arrow()["embedding"])
        if not len(rows):
            raise KeyError(image_id)
        return rows[0]

    def search(
        self,
        embedder: keras.Model,
        images: Any,
        k: int = 10,
        *,
        codes: bool = False,
        exact: bool = False,
        where: str | None = None,
    ) -> Matches:
        """Finds the gallery's images nearest to yours.

        Args:
            embedder: the model that the gallery is for.
            images: the path of an image file, or several; or pixels, (side, side, 3) or
                (images, side, side, 3), RGB from 0 to 255 as the model takes them.
            k: how many to find, at least 1.
            codes: compare binary codes by Hamming distance, exactly, where otherwise
                embeddings are compared by cosine.
            exact: compare with every image, where `calibrate` has built an index.
            where: a condition in SQL on `id`, `class` and the other columns, such as
                "class = 'wren' AND year > 2020"; only images that meet it are found,
                by exact search.

        Returns:
            The k nearest of each image, by their ids.

        Raises:
            FileNotFoundError: if there is no such image file.
            ValueError: if the model is of another side or width than the gallery's, an
                image or the condition can't be read, or an argument is out of range.
        """
        k = checked_integer(k, "k", 1)
        embeddings = query_embeddings(
            embedder, images, self.image_size, self.resize, self.dim
        )
        return self.search_embeddings(
            embeddings, k, codes=codes, exact=exact, where=where
        )

    @_with_reason
    def search_embeddings(
        self,
        embeddings: npt.ArrayLike,
        k: int = 10,
        *,
        codes: bool = False,
        exact: bool = False,
        where: str | None = None,
    ) -> Matches:
        """Finds the gallery's images nearest to embeddings.

        Args:
            embeddings: (queries, dim) floats.
            k: as in `search`.
            codes: as in `search`.
            exact: as in `search`.
            where: as in `search`.

        Returns:
            The k nearest of each row, by their ids.

        Raises:
            ValueError: if embeddings has another width, the condition can't be read, or
                k is out of range.
        """
        k = checked_integer(k, "k", 1)
        codes, exact = checked_bool(codes, "codes"), checked_bool(exact, "exact")
        rows = checked_rows(embeddings, "queries", self.dim)
        _check_not_zero(rows)
        index = None if codes or exact or where else self._current_index()
        effort = index and _Effort(index["nprobes"], index.get("refined"))
        rows = binary_codes(rows) if codes else unit_rows(rows)
        names, classes, distances = self._nearest(
            rows, min(k, len(self)), effort, codes, where
        )
        scores = (0 if codes else 1) - distances
        return Matches(names.astype(str), classes.astype(str), scores)

    @property
    @_with_reason
    def calibration(self) -> Calibration | None:
        """What `calibrate` found last, in this process or another; None before."""
        index = self._current_index()
        return Calibration(**index["calibration"]) if index else None

    @_with_reason
    def calibrate(
        self, k: int = 10, target: float = 0.99, seed: int = 0
    ) -> Calibration:
        """Builds an index and finds the least effort that agrees with exact search.

        The index groups the embeddings around as many centers as the square root of
        their number. Of 20,000 images and more it keeps a code of a bit a dimension of
        each (RaBitQ, Gao & Long 2024, https://arxiv.org/abs/2405.12497; Lance's
        IVF_RQ). A search compares with the codes around the nearest centers, and the
        20 k nearest of these with their embeddings, so scores are exact. Up to 1,000
        images, drawn by the seed, are searched exactly and through the index, each left
        out of what is found for it, and the centers are doubled until the mean
        agreement reaches the target beyond reasonable doubt, as `calibrated_neighbors`
        has it. If codes don't reach it, or there are fewer images, or the dimensions
        are no multiple of 8, the index keeps the embeddings themselves (Lance's
        IVF_FLAT): with all centers every image is compared.

        Images that are put in later are found as well: they are compared one by one,
        until `optimize` or the next `calibrate` takes them into the index.

        Args:
            k: how many neighbors will be asked for, at least 1.
            target: the agreement to reach, above 0 and up to 1.
            seed: draws the sample, at least 0.

        Returns:
            What was found; it is kept with the gallery.

        Raises:
            ValueError: if there are fewer than 2 images, or an argument is out of
                range.
        """
        from lancedb.index import IvfFlat
        from lancedb.index import IvfRq

        k = checked_integer(k, "k", 1)
        target = checked_number(target, "target", above=0, most=1)
        seed = checked_integer(seed, "seed", 0)
        count = len(self)
        if count < 2:
            raise ValueError(f"a gallery of {count} images can't be calibrated.")
        partitions = max(1, round(count**0.5))
        trial = LanceSample(self._nearest, self._table, k, seed)
        kinds = {IvfRq: _REFINED * trial.k, IvfFlat: None}
        if self.dim % 8 or count < _LEAST_CODES:
            del kinds[IvfRq]
        for kind, refined in kinds.items():
            name = self._new_index(kind, partitions)

            def tried(nprobes, refined=refined):
                return trial.agreement(_Effort(nprobes, refined), target)

            nprobes, found, reached = least_effort(tried, 1, partitions)
            effort = _Effort(nprobes, refined)
            reached = reached or (kind is IvfFlat and nprobes == partitions)
            if reached:
                break
        calibration = Calibration(
            k=trial.k,
            target=target,
            agreement=found,
            reached=reached,
            queries=len(trial.queries),
            seed=seed,
            ms_per_query=trial.milliseconds(effort),
            exact_ms_per_query=trial.milliseconds(None),
        )
        self._write_index(
            {
                "name": name,
                **dataclasses.asdict(effort),
                "calibration": dataclasses.asdict(calibration),
            }
        )
        return calibration

    def _new_index(self, kind, partitions):
        """Builds an index in place of all others, and gives its name."""
        name = f"embedding_{secrets.token_hex(4)}"
        # Of two indexes Lance may search either; without its own, search is exact.
        for old in self._table.list_indices():
            self._table.drop_index(old.name)
        self._table.create_index(
            "embedding",
            config=kind(distance_type="cosine", num_partitions=partitions),
            name=name,
            replace=False,
        )
        return name

    @_with_reason
    def optimize(self) -> None:
        """Merges small files, takes new images into the index, drops old versions.

        Call it after many changes. Readers that opened the gallery before go on.
        """
        self._table.optimize(cleanup_older_than=datetime.timedelta(days=1))

    def _nearest(self, rows, k, effort, codes=False, where=None):
        """Ids, classes and distances, (queries, k); exact search without an effort.

        Where fewer are found the rest is "" at an infinite distance.
        """
        names = np.full((len(rows), k), "", object)
        classes = names.copy()
        distances = np.full((len(rows), k), np.inf, np.float32)
        for start in range(0, len(rows) if k else 0, _QUERIES_AT_ONCE):
            some = rows[start : start + _QUERIES_AT_ONCE]
            found = self._found(some, k, effort, codes, where)
            query = np.zeros(len(found), int)
            if len(some) > 1:
                query = found["query_index"].to_numpy()
            distance = found["_distance"].to_numpy()
            order = np.lexsort((distance, query))
            query = query[order]
            place = np.arange(len(found)) - np.searchsorted(query, query)
            query = start + query
            names[query, place] = as_numpy(found["id"])[order]
            classes[query, place] = as_numpy(found["class"])[order]
            distances[query, place] = distance[order]
        return names, classes, distances

    def _found(self, rows, k, effort, codes, where):
        """The arrow table of what LanceDB finds for a few queries at once."""
        query = self._table.search(
            rows if len(rows) > 1 else rows[0],
            vector_column_name="code" if codes else "embedding",
        )
        query = query.distance_type("hamming" if codes else "cosine").limit(k)
        query = query.select(["id", "class", "_distance"])
        if effort is None:
            query = query.bypass_vector_index()
        else:
            query = query.nprobes(effort.nprobes)
            if effort.refined is not None:
                factor = max(_REFINED, -(-effort.refined // k))
                query = query.refine_factor(factor)
        if where is not None:
            query = query.where(where, prefilter=True)
        try:
            return query.to_arrow()
        except (ValueError, RuntimeError, OSError) as error:
            if where is None or "LanceError(IO)" in str(error):
                raise _unreadable(self.uri, error) from None
            raise ValueError(
                f"where={where!r} is no condition on the columns {self.columns}, with "
                f"text in single quotes: {first_line(error)}"
            ) from None

    def _current_index(self):
        """The record of the calibrated index, read anew where the table has changed."""
        version = self._table.version
        # Its record is written after the index, in a table of its own.
        may_be_new = self._index is None and self._table.list_indices()
        if version != self._calibrated_version or may_be_new:
            self._index = self._read_index()
            self._calibrated_version = version
        return self._index

    def _read_index(self):
        try:
            table = self._database.open_table(_CALIBRATION_TABLE)
        except ValueError:  # There is none.
            return None
        (record,) = table.search().to_arrow()["record"].to_pylist()
        index = json.loads(record)
        names = {one.name for one in self._table.list_indices()}
        return index if index["name"] in names else None

    def _write_index(self, index):
        import pyarrow as pa

        record = pa.table({"record": [json.dumps(index)]})
        self._database.create_table(_CALIBRATION_TABLE, record, mode="overwrite")
        self._calibrated_version = None


def _unreadable(uri, error):
    return OSError(
        f"the gallery at {uri!r} can't be read: {first_line(error)}. Copy it again, or "
        "index the images again."
    )


def _check_not_zero(rows):
    zero = ~rows.any(axis=1)
    if zero.any():
        raise ValueError(
            f"row {int(zero.argmax())} of embeddings is all zeros, and so near to "
            "nothing. Leave that image out."
        )


def holds_lance_gallery(folder: pathlib.Path) -> bool:
    """Tells whether a local folder holds a gallery of this kind."""
    return (folder / f"{_TABLE}.lance").is_dir()
