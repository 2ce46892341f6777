"""The shards of a corpus: their names, and the Parquet files that hold them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments._corpus.list_images import ListedImages
from keras_dml._files import atomic_file
from keras_dml.evaluation import binary_codes

METADATA = b"keras_dml"
"""Where the schema of a shard's file says what it is of."""

BATCH = 100
"""Images in a batch, as `embed` has it by default."""

_IMAGES = 10 * BATCH  # Whole batches: the same ones as where there are no shards.
_FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class EmbedderFile:
    """A run's model.

    Attributes:
        file: its embedding.keras, as an absolute path.
        sha256: of that file.
        dim: width of the embeddings.
        image_size: side of the images that it takes, in pixels.
        resize: side that they are resized to before the crop.
    """

    file: str
    sha256: str
    dim: int
    image_size: int
    resize: int

    def about(self) -> dict[str, Any]:
        """All but where it is."""
        about = dataclasses.asdict(self)
        del about["file"]
        return about


@dataclasses.dataclass(frozen=True)
class Shard:
    """Some images of a corpus, and the name that follows from them and the model.

    Attributes:
        name: of its file.
        images: that it is of, with those that will turn out not to be readable.
    """

    name: str
    images: ListedImages


def corpus_shards(images: ListedImages, model: EmbedderFile) -> list[Shard]:
    """Cuts images into shards of 1,000; the last may have fewer."""
    starts = range(0, len(images), _IMAGES)
    parts = [
        ListedImages(
            images.paths[start : start + _IMAGES],
            images.classes[start : start + _IMAGES],
            images.sizes[start : start + _IMAGES],
            images.modified[start : start + _IMAGES],
        )
        for start in starts
    ]
    return [
        Shard(_shard_name(number, part, model), part)
        for number, part in enumerate(parts)
    ]


def _shard_name(number, images, model):
    follows_from = [
        _FORMAT_VERSION,
        BATCH,
        number,
        model.about(),
        images.paths,
        images.classes,
        images.sizes.tolist(),
        images.modified.tolist(),
    ]
    digest = hashlib.sha256(json.dumps(follows_from, sort_keys=True).encode("ascii"))
    return f"{number:06}-{digest.hexdigest()[:24]}.parquet"


def write_shard(
    folder: str | os.PathLike,
    shard: Shard,
    model: EmbedderFile,
    embeddings: np.ndarray,
    rejected: Mapping[str, str],
) -> None:
    """Writes the file of a shard, the same bytes for the same embeddings.

    Its columns are path, class, size, modified (ns), embedding and code; its metadata
    says what it is of and which images were rejected.

    Args:
        folder: where it is to be; what has its name is replaced.
        shard: the images.
        model: that they were embedded with.
        embeddings: (readable images, dim) floats, in the order of the shard.
        rejected: {path: reason} of the others.

    Raises:
        OSError: if nothing can be written there.
    """
    import pyarrow as pa
    import pyarrow.parquet

    rows = _readable(shard, rejected)
    width = -(-model.dim // 8)
    codes = binary_codes(embeddings) if len(rows) else np.zeros((0, width), np.uint8)
    images = shard.images
    columns = {
        "path": pa.array([images.paths[row] for row in rows], pa.string()),
        "class": pa.array([images.classes[row] for row in rows], pa.string()),
        "size": pa.array(images.sizes[rows], pa.int64()),
        "modified": pa.array(images.modified[rows], pa.int64()),
        "embedding": _vectors(embeddings, model.dim),
        "code": _vectors(codes, width),
    }
    about = {"shard": shard.name, **model.about(), "rejected": dict(rejected)}
    table = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(about)})
    with atomic_file(pathlib.Path(folder) / shard.name) as unfinished:
        pa.parquet.write_table(
            table,
            unfinished,
            use_dictionary=["class"],
            write_page_checksum=True,
        )


def _readable(shard, rejected):
    paths = enumerate(shard.images.paths)
    return np.array([row for row, path in paths if path not in rejected], int)


def _vectors(rows, width):
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), width)


def rejected_images(folder: str | os.PathLike, shard: Shard) -> dict[str, str] | None:
    """Looks into the file of a shard.

    Args:
        folder: where it is to be.
        shard: the shard.

    Returns:
        {path: reason} of its images that were rejected; None if there is no such file,
        or it is not whole.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        found = pa.parquet.read_metadata(pathlib.Path(folder) / shard.name)
        about = json.loads(found.metadata[METADATA])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    rejected = about.get("rejected", {})
    is_whole = about.get("shard") == shard.name
    is_whole &= found.num_rows + len(rejected) == len(shard.images)
    return rejected if is_whole else None


def read_shard(file: pathlib.Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Reads columns of a shard's file, checking them against its checksums.

    Returns:
        {name: (images,) values; (images, dim) and (images, bytes) of embedding, code}.

    Raises:
        OSError: if it is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = pa.parquet.read_table(
            file, columns=list(columns), page_checksum_verification=True
        )
    except (OSError, pa.ArrowException) as error:
        raise OSError(
            f"{str(file)!r} can't be read: {str(error).splitlines()[0]}. Delete it, "
            "and run experiments.embed_corpus again."
        ) from None
    return {name: _as_numpy(table[name].combine_chunks()) for name in columns}


def _as_numpy(column):
    if not hasattr(column.type, "list_size"):
        return column.to_numpy(zero_copy_only=False)
    values = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), column.type.list_size)
