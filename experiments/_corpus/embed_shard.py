"""From the images of one shard to its file."""

import keras
import numpy as np
import tensorflow as tf

from experiments._corpus.list_images import size_and_time
from experiments._corpus.shards import BATCH
from experiments._corpus.shards import EmbedderFile
from experiments._corpus.shards import Shard
from experiments._corpus.shards import rejected_images
from experiments._corpus.shards import write_shard
from keras_dml import data
from keras_dml import evaluation


def embed_shard(
    embedder: keras.Model, model: EmbedderFile, shard: Shard, folder: str
) -> None:
    """Writes a shard, unless it is there.

    An image that can't be read leaves its place in the batch to another, as rows of a
    batch round differently by their place: so the embeddings of all others are what
    they are without it, to the bit.

    Args:
        embedder: the model.
        model: the file that it was loaded from.
        shard: the images to embed.
        folder: where its file is to be.

    Raises:
        OSError: if an image is not as it was when it was listed, or can't be opened
            here, or nothing can be written.
        FloatingPointError: if an embedding is infinite or not a number.
    """
    if rejected_images(folder, shard) is not None:
        return
    embeddings, rejected = _embed(embedder, shard, model)
    _check_as_listed(shard, rejected)
    if not np.isfinite(embeddings).all():
        row = int(np.flatnonzero(~np.isfinite(embeddings).all(axis=1))[0])
        paths = [path for path in shard.images.paths if path not in rejected]
        raise FloatingPointError(
            f"the embedding of {paths[row]!r} is infinite or not a number."
        )
    write_shard(folder, shard, model, embeddings, rejected)


def _embed(embedder, shard, model):
    """Embeddings of the images that can be read, and {path: reason} of the others."""
    count = len(shard.images)
    images = data.ImageDataset(shard.images.paths, np.zeros(count, int), ("",))
    if (shard.images.sizes >= 0).all():
        try:
            return evaluation.embed(embedder, images, model.resize, BATCH, 0), {}
        except tf.errors.InvalidArgumentError as error:
            if data.unreadable_image(error) is None:
                raise
    rejected = data.find_bad_images(images)
    if len(rejected) == count:
        return np.zeros((0, model.dim), np.float32), rejected
    others = images.with_replaced(rejected)
    embeddings = evaluation.embed(embedder, others, model.resize, BATCH, 0)
    return embeddings[~np.isin(images.paths, list(rejected))], rejected


def _check_as_listed(shard, rejected):
    images = shard.images
    listed = zip(
        images.paths, images.sizes.tolist(), images.modified.tolist(), strict=True
    )
    for path, *expected in listed:
        if list(size_and_time(path)) != expected:
            raise OSError(
                f"{path!r} is not as it was when it was listed, or other files are "
                "there on this machine. Run it again where all machines see the same "
                "files, and into a new folder if the images have changed."
            )
        if path in rejected and expected[0] >= 0:
            # So that a disk that fails is not taken for an image that is damaged.
            with open(path, "rb") as file:
                file.read()
