r"""Embeds any number of images with the model of a run, on one machine or many.

python -m experiments.embed_corpus --run=saved_models/RUN --images=photos \
    --output=photos.corpus [--ray_address=HOST:PORT]

The images are those of a folder, of a list of paths, or of a glob. The output is a
folder of Parquet files, photos.corpus/shards, with path, class, embedding and binary
code of each image, and rejected.parquet and rejected.txt, with what can't be read and
why. To search them, make a gallery of the folder:

python -m experiments.index --from=photos.corpus --output_dir=photos.gallery

It works on Ray: on all cores or GPUs of this machine, or of the cluster at
--ray_address, whose machines all see the run, the images and the output under the same
paths. It may be stopped at any time, and machines may go and come: the same command
again goes on where it was, and ends with the same bytes.
"""

import os
import pathlib
import time

import keras
import tensorflow as tf
from absl import flags

from experiments._corpus.cluster import check_ray
from experiments._corpus.cluster import connected
from experiments._corpus.list_images import list_images
from experiments._corpus.record import SHARDS
from experiments._corpus.record import Record
from experiments._corpus.record import corpus_folder
from experiments._corpus.record import sha256_of_file
from experiments._corpus.record import write_rejected
from experiments._corpus.shards import EmbedderFile
from experiments._corpus.shards import corpus_shards
from experiments._corpus.shards import rejected_images
from experiments._corpus.workers import embed_on_ray
from experiments._lib import program
from experiments._lib.load_run import load_embedder
from experiments._lib.load_run import load_run_config
from keras_dml._checks import image_side

_RUN = flags.DEFINE_string("run", None, "The folder of a run.")
_IMAGES = flags.DEFINE_string(
    "images",
    None,
    "A folder, with all folders in it; a text file of one path a line; or a glob, in "
    "quotes, such as 'photos/**/*.jpg'.",
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The folder to write: a new one, or that of a run to go on with."
)
_RAY_ADDRESS = flags.DEFINE_string(
    "ray_address",
    None,
    'A Ray cluster, as host:port, ray://host:port, or "auto" for the one that runs on '
    "this machine. Default: one is started, of this machine alone.",
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "How many processes work at most, each with a model of its own. Default: one a "
    "GPU, or one a core where there is no GPU.",
    lower_bound=1,
)
flags.mark_flags_as_required(["run", "images", "output"])


def main(argv: list[str]) -> None:
    """Images → shards of embeddings, by the workers → what was rejected."""
    del argv
    check_ray()
    model = _embedder_file(pathlib.Path(_RUN.value))
    images = list_images(_IMAGES.value)
    shards = corpus_shards(images, model)
    record = Record(
        **model.about(),
        images=len(images),
        shards=tuple(shard.name for shard in shards),
    )
    output = os.path.abspath(_OUTPUT.value)
    folder = os.path.join(output, SHARDS)
    with corpus_folder(output, record):
        missing = [one for one in shards if rejected_images(folder, one) is None]
        if len(missing) < len(shards):
            there = len(shards) - len(missing)
            print(f"{there:,} of {len(shards):,} shards are there.")
        if missing:
            with connected(_RAY_ADDRESS.value, _WORKERS.value):
                _embed(missing, model, folder)
        rejected = _rejected(shards, folder)
        file = write_rejected(output, rejected)
    print(f"{_OUTPUT.value}: {len(images) - len(rejected):,} images embedded.")
    if rejected:
        print(f"{len(rejected):,} can't be read; {file} lists them.")


def _embedder_file(run):
    resize = load_run_config(run)["resize"]
    file = os.path.abspath(run / "embedding.keras")
    tf.config.set_visible_devices([], "GPU")  # They are the workers'.
    embedder = load_embedder(file)
    dim, side = embedder.output_shape[-1], image_side(embedder)
    return EmbedderFile(file, sha256_of_file(file), dim, side, resize)


def _embed(shards, model, folder):
    images = sum(len(shard.images) for shard in shards)
    bar = keras.utils.Progbar(
        images, unit_name="image", stateful_metrics=["images/s", "workers"]
    )
    start = time.monotonic()
    embedded = 0

    def show(shard, workers):
        nonlocal embedded
        embedded += len(shard.images)
        speed = round(embedded / (time.monotonic() - start), 1)
        bar.update(embedded, [("images/s", speed), ("workers", workers)])

    print(f"Embedding {images:,} images, a shard at a time:")
    embed_on_ray(shards, model, folder, _WORKERS.value, show)


def _rejected(shards, folder):
    rejected = {}
    for shard in shards:
        of_shard = rejected_images(folder, shard)
        if of_shard is None:
            raise OSError(
                f"{os.path.join(folder, shard.name)!r} is gone again or damaged. Run "
                "it again, and see that nothing else writes there."
            )
        rejected |= of_shard
    return rejected


if __name__ == "__main__":
    program.run(main)
