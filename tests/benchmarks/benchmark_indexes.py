"""Indexes of neighbors against exact search: time, agreement and size.

The rows are synthetic, as in `benchmark_retrieval`, in classes of five, and 20,000 if
`--rows` says no other number; each of 2,000 queries is a row that is left out of what
is found for it. `make benchmark-retrieval` runs it, and so the tables come into
BENCHMARKS.md; with an option it only prints them.
"""

import argparse
import pathlib
import tempfile
import textwrap
import time
import warnings

import numpy as np

from keras_dml.evaluation import agreement
from keras_dml.evaluation import recall_of_neighbors
from keras_dml.evaluation import without_self
from keras_dml.search import AnnoyNeighbors
from keras_dml.search import ExactNeighbors
from keras_dml.search import HNSWNeighbors
from keras_dml.search import calibrated_neighbors
from tests.benchmarks.alternating_medians import alternating_medians
from tests.benchmarks.alternating_medians import pin_threads
from tests.benchmarks.machine import machine
from tests.benchmarks.measured_section import write_measured
from tests.benchmarks.synthetic_classes import codes
from tests.benchmarks.synthetic_classes import embeddings

_QUERIES = 2000
_ROUNDS = 3
_ROWS = 20_000
_PACKAGES = ("numpy", "annoy", "faiss-cpu")
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
            return calibrated_neighbors(kind, rows, k=1)

    return build


# search_k = trees · k is Annoy's own default, here for two neighbors.
_INDEXES = {
    "exact": _plain(ExactNeighbors()),
    "Annoy, 50 trees, its own search_k": _plain(AnnoyNeighbors(50, 100)),
    "Annoy, 100 trees, search_k 20,000": _plain(AnnoyNeighbors(100, 20_000)),
    "Annoy, calibrated": _calibrated("annoy"),
    "HNSW, as it is": _plain(HNSWNeighbors()),
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
        name: recall_of_neighbors(found, labels[own], labels, ks=(1,))["recall@1"]
        for name, found in ids.items()
    }
    lines = [
        f"{title}; exact R@1 {100 * recalls['exact']:.1f} %:\n",
        "| index | build, s | ms a query | agreement | R@1 | MB | parameters |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
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
        lines.append(f"| {' | '.join(cells)} |")
    table = "\n".join(lines) + "\n"
    print(table, flush=True)
    return table


def main():
    """Prints the tables, and writes them if they are the usual ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=_ROWS)
    parser.add_argument("--kind", choices=("float", "512"), help="default: both")
    arguments = parser.parse_args()
    pin_threads()
    about = textwrap.fill(
        f"`make benchmark-retrieval`, on {machine(*_PACKAGES)}. Query times are "
        f"medians of {_ROUNDS} rounds in turn, of {_QUERIES:,} queries at once.",
        width=88,
        break_on_hyphens=False,
    )
    print(about + "\n")
    tables = [about + "\n"]
    rows, labels = embeddings(arguments.rows, int(arguments.rows / _A_CLASS), 2.25)
    if arguments.kind != "512":
        title = f"{len(rows):,} × {rows.shape[1]}"
        tables.append(_measure(title, rows, labels))
    if arguments.kind != "float":
        title = f"{len(rows):,} × 512 bits"
        tables.append(_measure(title, codes(labels, 512), labels))
    if arguments.kind is None and arguments.rows == _ROWS:
        write_measured("indexes", "\n".join(tables))


if __name__ == "__main__":
    main()
