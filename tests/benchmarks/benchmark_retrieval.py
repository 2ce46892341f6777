"""Exact retrieval against faiss, pytorch-metric-learning and the bare matrix product.

The embeddings are synthetic, of the sizes of the paper's test sets: in 512 dimensions,
drawn around a random center for each class; codes, with a share of a class's random
bits flipped. Those of a network are not isotropic, so in the last two sets the variance
falls with the dimension, of 512 and of 2,048. The noise is such that some 70 to 80 % of
the queries of the largest sets find their class first. Run it with `make
benchmark-retrieval`, which writes the tables into BENCHMARKS.md, or one part of it,
which only prints, with `python -m tests.benchmarks.benchmark_retrieval --part=sop`.
"""

import argparse
import json
import subprocess
import sys
import textwrap
import time
from unittest import mock

import faiss
import numpy as np
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from keras_dml.evaluation import ranking_metrics
from keras_dml.evaluation import recall_at_k
from tests.benchmarks.alternating_medians import alternating_medians
from tests.benchmarks.alternating_medians import pin_threads
from tests.benchmarks.machine import machine
from tests.benchmarks.measured_section import write_measured
from tests.benchmarks.peak_memory import peak_mib
from tests.benchmarks.peak_memory import resident_mib
from tests.benchmarks.synthetic_classes import DIM
from tests.benchmarks.synthetic_classes import FLIPPED
from tests.benchmarks.synthetic_classes import codes
from tests.benchmarks.synthetic_classes import embeddings

_KS = (1, 10, 100, 1000)
_ROUNDS = 3
# Who takes so many seconds is timed once.
_SLOW = 25
_PACKAGES = ("numpy", "faiss-cpu", "pytorch-metric-learning", "torch")

# Images, classes, how far the images lie from their class's center, how fast the
# variance falls with the dimension, and the dimensions of float embeddings.
_SETS = {
    "cub": ("CUB-200-2011", 5_924, 100, 3.4, 0.0, DIM),
    "in_shop": ("In-Shop", 26_830, 3_985, 2.5, 0.0, DIM),
    "sop": ("Stanford Online Products", 60_502, 11_316, 2.25, 0.0, DIM),
    "spectrum_512": ("variance k^-1.1", 60_502, 11_316, 1.0, 1.1, 512),
    "spectrum_2048": ("variance k^-1.1", 60_502, 11_316, 1.08, 1.1, 2048),
}
_IN_SHOP_QUERIES = 14_218
_KINDS = ("float", *map(str, FLIPPED))


def _sides(rows, labels, part):
    """Queries and their labels, and a gallery and its labels where there is one."""
    if part != "in_shop":
        return rows, labels, None, None
    cut = _IN_SHOP_QUERIES
    return rows[:cut], labels[:cut], rows[cut:], labels[cut:]


def _by_faiss(index, queries, query_labels, gallery, gallery_labels):
    """The usual loop: one neighbor more, of which the first is taken for the query."""

    def run():
        itself = gallery is None
        indexed = queries if itself else gallery
        labels = query_labels if itself else gallery_labels
        index.reset()
        index.add(indexed)
        most = min(max(_KS), len(indexed) - 1)
        _, ids = index.search(queries, most + itself)
        hits = labels[ids[:, int(itself) :]] == query_labels[:, np.newaxis]
        return {f"recall@{k}": hits[:, :k].any(axis=1).mean() for k in _KS}

    return run


def _by_pytorch_metric_learning(queries, query_labels, gallery, gallery_labels):
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")

    def run():
        itself = gallery is None
        rows = queries if itself else gallery
        calculator = AccuracyCalculator(include=names, k=min(max(_KS), len(rows) - 1))
        found = calculator.get_accuracy(
            queries,
            query_labels,
            None if itself else gallery,
            None if itself else gallery_labels,
        )
        return {"recall@1": found["precision_at_1"]}

    return run


def _bare_product(queries, gallery):
    gallery = queries if gallery is None else gallery
    tile = np.empty((2048, len(gallery)), np.float32)

    def run():
        for start in range(0, len(queries), len(tile)):
            rows = queries[start : start + len(tile)]
            np.matmul(rows, gallery.T, out=tile[: len(rows)])

    return run


def _without_faiss(run):
    def run_without():
        with mock.patch("importlib.util.find_spec", lambda name: None):
            return run()

    return run_without


def _memory_and_time(run):
    """MiB that a run adds to those of the process at its highest, and its seconds."""
    before, start = resident_mib(), time.perf_counter()
    return peak_mib(run) - before, time.perf_counter() - start


def _memory_and_time_alone(part, kind, name):
    """The same, in a process that holds nothing of earlier runs."""
    command = [sys.executable, "-m", "tests.benchmarks.benchmark_retrieval"]
    command += ["--part", part, "--kind", kind, "--only", name]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(printed.stdout.splitlines()[-1])


def _measure(part, kind, title, contestants):
    """A table of seconds, ratios to a contestant, memory and Recall@1."""
    recalls = {}

    def remembering(name, run):
        def remember():
            recalls[name] = run()

        return remember

    runs = {name: remembering(name, run) for name, run in contestants.items()}
    memory, seconds = {}, {}
    for name in runs:
        memory[name], seconds[name] = _memory_and_time_alone(part, kind, name)
    often = {name: run for name, run in runs.items() if seconds[name] < _SLOW}
    for name in runs.keys() - often.keys():
        start = time.perf_counter()
        runs[name]()
        seconds[name] = time.perf_counter() - start
    seconds |= alternating_medians(often, _ROUNDS)
    reference = "bare product" if kind == "float" else "faiss IndexBinaryFlat"
    lines = [
        f"{title}:\n",
        f"| | seconds | × {reference} | MiB | R@1 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in runs:
        ratio = seconds[name] / seconds[reference]
        figures = recalls[name]
        recall = f"{100 * figures['recall@1']:.2f}" if figures else "–"
        time_taken = f"{seconds[name]:.2f}"
        cells = name, time_taken, f"{ratio:.2f}", f"{memory[name]:,.0f}", recall
        lines.append(f"| {' | '.join(cells)} |")
    table = "\n".join(lines) + "\n"
    print(table, flush=True)
    return table


def _contestants(part, kind):
    """What the table is of, and who takes part."""
    name, count, classes, spread, decay, dim = _SETS[part]
    rows, labels = embeddings(count, classes, spread, decay, dim)
    if kind != "float":
        rows = codes(labels, int(kind))
    images = queries, _, gallery, _ = _sides(rows, labels, part)

    def recall():
        return recall_at_k(*images, _KS)

    def ranking():
        return ranking_metrics(*images, _KS)["all"]

    title = f"{name}, {count:,} images"
    if gallery is not None:
        title = f"{name}, {len(queries):,} queries × {len(gallery):,}"
    if kind == "float":
        contestants = {
            "bare product": _bare_product(queries, gallery),
            "recall_at_k": recall,
            "ranking_metrics": ranking,
            "faiss IndexFlatIP": _by_faiss(faiss.IndexFlatIP(dim), *images),
        }
        if not decay:
            peer = _by_pytorch_metric_learning(*images)
            contestants["pytorch-metric-learning"] = peer
        return f"{title}, {dim:,} dimensions", contestants
    return f"{title}, {int(kind):,} bits", {
        "recall_at_k": recall,
        "recall_at_k, no faiss": _without_faiss(recall),
        "ranking_metrics": ranking,
        "faiss IndexBinaryFlat": _by_faiss(faiss.IndexBinaryFlat(int(kind)), *images),
    }


def main():
    """Prints the tables, and writes them if they are all there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=sorted(_SETS), help="default: all")
    parser.add_argument("--kind", choices=_KINDS, help="default: all")
    parser.add_argument(
        "--only", help="with --part and --kind: print [MiB, seconds] of one contestant"
    )
    arguments = parser.parse_args()
    pin_threads()
    if arguments.only:
        _, contestants = _contestants(arguments.part, arguments.kind)
        print(json.dumps(_memory_and_time(contestants[arguments.only])))
        return
    about = textwrap.fill(
        f"`make benchmark-retrieval`, on {machine(*_PACKAGES)}. Medians of {_ROUNDS} "
        f"rounds in which the contestants take turns; those of {_SLOW} seconds and "
        "more were run once. Memory was measured in a process for each.",
        width=88,
        break_on_hyphens=False,
    )
    print(about + "\n")
    tables = [about + "\n"]
    for part in _SETS:
        for kind in _KINDS:
            has_codes = not part.startswith("spectrum")
            if kind != "float" and not has_codes:
                continue
            if arguments.part in (None, part) and arguments.kind in (None, kind):
                tables.append(_measure(part, kind, *_contestants(part, kind)))
    if arguments.part is None and arguments.kind is None:
        write_measured("exact retrieval", "\n".join(tables))


if __name__ == "__main__":
    main()
