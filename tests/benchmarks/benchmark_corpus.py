"""Embedding a corpus on Ray with one and two workers, beside `embed` in one process.

EfficientNet-Lite0 with random weights reads the same JPEG files, in shards of 1,000.
Once with its start, from nothing to the last shard, and once without: from where each
worker has ended its first shard. A worker has one core; `embed` has all. The embeddings
must be equal to the bit. Run it with `make benchmark-corpus`.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np
import pyarrow.parquet

import keras_dml
from experiments._corpus.cluster import check_ray
from experiments._corpus.cluster import connected
from experiments._corpus.list_images import list_images
from experiments._corpus.record import sha256_of_file
from experiments._corpus.shards import EmbedderFile
from experiments._corpus.shards import corpus_shards
from experiments._corpus.workers import embed_on_ray
from tests.benchmarks.jpeg_photographs import jpeg_photographs
from tests.benchmarks.machine import machine
from tests.benchmarks.measured_section import write_measured

_SIDE, _RESIZE, _DIM = 64, 73, 512
_SHARD = 1000
_SHARDS = 4


def _write(folder, count):
    """The file of a model and a folder of photographs."""
    trunk = keras_dml.models.trunk("efficientnet_lite0", (_SIDE, _SIDE, 3))
    embedder = keras_dml.models.embedding_model(trunk, _DIM)
    file = str(folder / "embedding.keras")
    embedder.save(file)
    (folder / "photos").mkdir()
    for row, content in enumerate(jpeg_photographs(count)):
        (folder / "photos" / f"{row:05}.jpg").write_bytes(content)
    return embedder, EmbedderFile(file, sha256_of_file(file), _DIM, _SIDE, _RESIZE)


def _embed_on_ray(shards, model, folder, workers):
    """Images a second with and without the start of Ray and the workers."""
    folder.mkdir()
    ended = []
    start = time.perf_counter()
    with connected(None, workers):
        embed_on_ray(
            shards,
            model,
            str(folder),
            workers,
            lambda shard, crew: ended.append(time.perf_counter()),
        )
    whole = _SHARD * len(shards) / (ended[-1] - start)
    steady = _SHARD * (len(shards) - workers) / (ended[-1] - ended[workers - 1])
    rows = [pyarrow.parquet.read_table(folder / one.name) for one in shards]
    embeddings = np.concatenate([one["embedding"].to_pylist() for one in rows])
    return whole, steady, embeddings.astype(np.float32)


def main():
    """Writes the table into BENCHMARKS.md."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--note", default="", help="what else the machine did")
    flags = flags.parse_args()
    check_ray()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        embedder, model = _write(folder, _SHARD * _SHARDS)
        shards = corpus_shards(list_images(str(folder / "photos")), model)
        paths = [path for shard in shards for path in shard.images.paths]
        images = keras_dml.data.ImageDataset(paths, [0] * len(paths), ("",))

        def alone():
            return keras_dml.evaluation.embed(embedder, images, _RESIZE, verbose=0)

        alone()  # traces, and warms the files up
        start = time.perf_counter()
        expected = alone()
        speed = len(paths) / (time.perf_counter() - start)
        lines = [f"| `embed`, all cores | {speed:,.0f} | {speed:,.0f} |"]
        all_found = []
        for workers in (1, 2):
            whole, steady, found = _embed_on_ray(
                shards, model, folder / str(workers), workers
            )
            # `embed` has more threads, and sums of some processors round by them.
            np.testing.assert_allclose(found, expected, atol=1e-6)
            all_found.append(found)
            name = "1 worker, one core" if workers == 1 else "2 workers, a core each"
            lines.append(f"| {name} | {steady:,.0f} | {whole:,.0f} |")
        np.testing.assert_array_equal(*all_found)
    text = "\n".join(
        [
            f"{machine('tensorflow', 'keras', 'ray')}{flags.note}.",
            "",
            f"| {len(paths):,} images, {_SIDE} pixels | images/s | with the start |",
            "| --- | --- | --- |",
            *lines,
        ]
    )
    print(text)
    write_measured("corpus", text)


if __name__ == "__main__":
    main()
