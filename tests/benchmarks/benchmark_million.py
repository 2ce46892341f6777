"""Recall@K of a million embeddings that search one another, in a memory-mapped file.

Synthetic embeddings of 512 dimensions, some five images a class, whose variance falls
as k^-1.1 with the dimension k. `recall_at_k` runs once, in a process of its own. The
bare matrix product and faiss's exact search take hours, so they are timed with a part
of the queries, and their seconds are multiplied.
Run it with `make benchmark-million`, which takes about an hour and writes the table
into BENCHMARKS.md; `--images=100000` only prints one of fewer images.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import time

import faiss
import numpy as np

from keras_dml.evaluation import recall_at_k
from tests.benchmarks.alternating_medians import pin_threads
from tests.benchmarks.machine import machine
from tests.benchmarks.measured_section import write_measured
from tests.benchmarks.peak_memory import anonymous_mib
from tests.benchmarks.peak_memory import peak_mib
from tests.benchmarks.synthetic_classes import DIM
from tests.benchmarks.synthetic_classes import embeddings

_IMAGES = 1_000_000
_IMAGES_OF_A_CLASS = 5.35  # as in Stanford Online Products
_SPREAD, _DECAY = 1.0, 1.1
_LEAST_IMAGES = 10_000
_KS = (1, 10, 100, 1000)
_QUERIES = 4_096  # of the contestants that are timed in part
_ROWS_AT_ONCE = 512


def main() -> None:
    """Measures and prints, and writes BENCHMARKS.md if no other size is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, help="measure this size alone")
    parser.add_argument(
        "--only", type=pathlib.Path, help="print the figures of the files in a folder"
    )
    arguments = parser.parse_args()
    if arguments.images is not None and arguments.images < _LEAST_IMAGES:
        parser.error(
            f"--images must be at least {_LEAST_IMAGES}; got {arguments.images}"
        )
    if arguments.only is not None:
        print(json.dumps(_measured(arguments.only)))
        return
    pin_threads()
    count = _IMAGES if arguments.images is None else arguments.images
    with tempfile.TemporaryDirectory() as folder:
        rows, labels = embeddings(
            count, int(count / _IMAGES_OF_A_CLASS), _SPREAD, _DECAY
        )
        np.save(pathlib.Path(folder, "rows.npy"), rows)
        np.save(pathlib.Path(folder, "labels.npy"), labels)
        half = _seconds_of_product(rows) / 2
        by_faiss = _seconds_of_faiss(rows)
        del rows
        print(f"half the bare product: {half:,.1f} s; faiss: {by_faiss:,.1f} s")
        figures = _measured_alone(folder)
    recalls = [f"{100 * figures[f'recall@{k}']:.2f}" for k in _KS]
    table = "\n".join(
        [
            "| | seconds | × half the bare product | MiB | R@1, 10, 100, 1,000 |",
            "| --- | --- | --- | --- | --- |",
            f"| half the bare product | {half:,.1f} | 1.00 | | |",
            f"| recall_at_k | {figures['seconds']:,.1f} | "
            f"{figures['seconds'] / half:.2f} | {figures['mib']:,.0f} | "
            f"{', '.join(recalls)} |",
            f"| faiss IndexFlatIP | {by_faiss:,.1f} | {by_faiss / half:.2f} | | |",
        ]
    )
    note = textwrap.fill(
        f"`make benchmark-million`, once, on {machine('numpy', 'faiss-cpu')}. The "
        f"product and faiss were timed with {_QUERIES:,} of {count:,} queries.",
        width=88,
        break_on_hyphens=False,
    )
    print(f"{table}\n\n{note}")
    if arguments.images is None:
        write_measured("a million images", f"{table}\n\n{note}")


def _measured_alone(folder):
    command = [sys.executable, "-m", "tests.benchmarks.benchmark_million"]
    command += [f"--only={folder}"]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(printed.stdout.splitlines()[-1])


def _measured(folder):
    """Recall@K, seconds, and MiB of the process beside the pages of the file."""
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy")
    found = {}

    def run():
        found.update(recall_at_k(rows, labels, ks=_KS))

    before, start = anonymous_mib(), time.perf_counter()
    found["mib"] = peak_mib(run, anonymous_mib) - before
    return found | {"seconds": time.perf_counter() - start}


def _seconds_of_product(rows):
    """Of the bare product of all rows with all, from that of some of them."""
    tile = np.empty((_ROWS_AT_ONCE, len(rows)), np.float32)
    start = time.perf_counter()
    for first in range(0, _QUERIES, _ROWS_AT_ONCE):
        np.matmul(rows[first : first + _ROWS_AT_ONCE], rows.T, out=tile)
    return (time.perf_counter() - start) * len(rows) / _QUERIES


def _seconds_of_faiss(rows):
    index = faiss.IndexFlatIP(DIM)
    index.add(rows)
    start = time.perf_counter()
    index.search(rows[:_QUERIES], max(_KS) + 1)
    return (time.perf_counter() - start) * len(rows) / _QUERIES


if __name__ == "__main__":
    main()
