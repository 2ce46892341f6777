"""From the shards of a corpus to a gallery that grows."""

import pathlib
from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np

from experiments._corpus.record import SHARDS
from experiments._corpus.record import Record
from experiments._corpus.shards import read_shard
from keras_dml._similarity import unit_rows
from keras_dml.search import LanceGallery

_SHARDS_AT_ONCE = 10
_SAME = 0.999  # cosine; embeddings are kept as they come, but for their length


def whole_shards(corpus: str, record: Record) -> list[pathlib.Path]:
    """The files of a corpus.

    Args:
        corpus: the folder.
        record: of the corpus.

    Raises:
        FileNotFoundError: if one is missing.
    """
    files = [pathlib.Path(corpus) / SHARDS / name for name in record.shards]
    missing = sum(not file.is_file() for file in files)
    if missing:
        raise FileNotFoundError(
            f"the corpus {str(corpus)!r} is not whole: {missing:,} of {len(files):,} "
            "shards are missing. Run experiments.embed_corpus with the same flags "
            "again."
        )
    return files


def holds_only(
    gallery: LanceGallery,
    known: Mapping[str, tuple[int, int]],
    files: Sequence[pathlib.Path],
) -> bool:
    """Tells whether all that a gallery holds is of a corpus, by the same model.

    Args:
        gallery: with the columns size and modified.
        known: {id: (bytes, ns)} of its images.
        files: the shards of the corpus.

    Raises:
        OSError: if a shard is damaged.
    """
    found = 0
    for file in files if known else ():
        shard = read_shard(file, ("path", "size", "modified"))
        images = zip(shard["path"], shard["size"], shard["modified"], strict=True)
        same = [
            row
            for row, (path, *stat) in enumerate(images)
            if path in known and known[path] == tuple(stat)
        ]
        if same and not found:
            embeddings = read_shard(file, ("embedding",))["embedding"]
            kept = gallery.embedding(shard["path"][same[0]])
            if unit_rows(embeddings[same[:1]])[0] @ kept < _SAME:
                return False
        found += len(same)
    return found == len(known)


def put_shards(
    gallery: LanceGallery,
    known: Mapping[str, tuple[int, int]],
    files: Sequence[pathlib.Path],
) -> int:
    """Puts all images of a corpus into a gallery, but for those that are in it.

    Ten shards are one commit.

    Args:
        gallery: with the columns size and modified.
        known: {id: (bytes, ns)} of its images.
        files: the shards of the corpus.

    Returns:
        How many images were put in.

    Raises:
        OSError: if a shard is damaged.
        ValueError: if an embedding is all zeros.
    """
    added = 0
    bar = keras.utils.Progbar(len(files), unit_name="shard")
    for start in range(0, len(files), _SHARDS_AT_ONCE):
        columns = ("path", "class", "size", "modified", "embedding")
        some = files[start : start + _SHARDS_AT_ONCE]
        shards = [read_shard(file, columns) for file in some]
        of = {name: np.concatenate([one[name] for one in shards]) for name in columns}
        new = [row for row, path in enumerate(of["path"]) if path not in known]
        if new:
            gallery.put_embeddings(
                of["embedding"][new],
                of["path"][new],
                of["class"][new],
                {name: of[name][new] for name in ("size", "modified")},
            )
        added += len(new)
        bar.update(start + len(some))
    return added
