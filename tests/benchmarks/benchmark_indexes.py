"""Indexes of neighbours against exact search: time, agreement and size.

The rows are those of `benchmark_retrieval` for Stanford Online Products, or as many of
them as `--rows` says, in classes of five; each of 2,000 queries is a row that is left
out of what is found for it. It is run by `make benchmark-retrieval`.
"""

import argparse
import pathlib
import tempfile
import time
import warnings

import faiss
import numpy as np

from keras_dml.evaluation import AnnoyNeighbours
from keras_dml.evaluation import ExactNeighbours
from keras_dml.evaluation import HNSWNeighbours
from keras_dml.evaluation import agreement
from keras_dml.evaluation import calibrated_neighbours
from keras_dml.evaluation import recall_of_neighbours
from keras_dml.evaluation import without_self
from tests.benchmarks.alternating_medians import alternating_medians
from tests.benchmarks.alternating_medians import pin_threads
from tests.benchmarks.synthetic_classes import codes
from tests.benchmarks.synthetic_classes import embeddings

_QUERIES = 2000
_ROUNDS = 3
_A_CLASS = 5.35


def _plain(index):
    def build(rows):
        index.build(rows)
        return index

    return build


def _calibrated(kind):
    def build(rows):
        with warnings.catch_warnings():
            # The table says how far it came.
            warnings.simplefilter("ignore", UserWarning)
            return calibrated_neighbours(kind, rows, k=1)

    return build


# search_k = trees · k is Annoy's own default, here for two neighbours.
_INDEXES = {
    "exact": _plain(ExactNeighbours()),
    "Annoy, 50 trees, its own search_k": _plain(AnnoyNeighbours(50, 100)),
    "Annoy, 100 trees, search_k 20,000": _plain(AnnoyNeighbours(100, 20_000)),
    "Annoy, calibrated": _calibrated("annoy"),
    "HNSW, as it is": _plain(HNSWNeighbours()),
    "HNSW, calibrated": _calibrated("hnsw"),
}


def _size(index):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder) / "index"
        index.save(folder)
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _measure(title, rows, labels):
    own = np.random.default_rng(2).permutation(len(rows))[:_QUERIES]
    queries = rows[own]
    indexes, builds, ids = {}, {}, {}
    for name, build in _INDEXES.items():
        start = time.perf_counter()
        indexes[name] = build(rows)
        builds[name] = time.perf_counter() - start

    def search(name):
        def run():
            ids[name] = without_self(indexes[name].search(queries, 2)[0], own)

        return run

    medians = alternating_medians({name: search(name) for name in indexes}, _ROUNDS)
    recalls = {
        name: recall_of_neighbours(found, labels[own], labels, ks=(1,))[1]
        for name, found in ids.items()
    }
    print(f"\n{title}; exact R@1 {100 * recalls['exact']:.1f} %\n")
    print("| index | build, s | ms a query | agreement | R@1 | MB | parameters |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, index in indexes.items():
        agreed = agreement(ids[name], ids["exact"], queries, rows).mean()
        parameters = {**index.parameters}
        parameters.pop("seed", None)
        cells = (
            name,
            f"{builds[name]:.1f}",
            f"{1000 * medians[name] / len(queries):.3f}",
            f"{100 * agreed:.1f} %",
            f"{100 * (recalls[name] - recalls['exact']):+.1f}",
            f"{_size(index) / 1e6:.0f}",
            ", ".join(f"{key} {value:,}" for key, value in parameters.items()),
        )
        print(f"| {' | '.join(cells)} |", flush=True)


def main():
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_502)
    parser.add_argument("--kind", choices=("float", "512"), help="default: both")
    arguments = parser.parse_args()
    pin_threads()
    print(f"faiss {faiss.__version__}")
    rows, labels = embeddings(arguments.rows, int(arguments.rows / _A_CLASS), 2.25)
    if arguments.kind != "512":
        _measure(f"{len(rows):,} × {rows.shape[1]}", rows, labels)
    if arguments.kind != "float":
        _measure(f"{len(rows):,} × 512 bits", codes(labels, 512), labels)


if __name__ == "__main__":
    main()
