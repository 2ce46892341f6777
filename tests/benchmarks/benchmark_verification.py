"""All pairs of 60,502 images, in time and memory, against Recall@K and scikit-learn.

The embeddings and codes are those of `benchmark_retrieval`, of the size of Stanford
Online Products. scikit-learn's curve needs all pairs at once, so it is measured on some
of the images. Run it with `make benchmark-verification`, which writes the table into
BENCHMARKS.md; with `--images=6000` it only prints one, of so many.
"""

import argparse
import json
import subprocess
import sys
import textwrap

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve

from keras_dml.evaluation import recall_at_k
from keras_dml.evaluation import verification
from tests.benchmarks.alternating_medians import alternating_medians
from tests.benchmarks.alternating_medians import pin_threads
from tests.benchmarks.machine import machine
from tests.benchmarks.measured_section import write_measured
from tests.benchmarks.peak_memory import peak_mib
from tests.benchmarks.peak_memory import resident_mib
from tests.benchmarks.synthetic_classes import DIM
from tests.benchmarks.synthetic_classes import codes
from tests.benchmarks.synthetic_classes import embeddings

_IMAGES = 60_502
_IMAGES_A_CLASS = 5.35
_SPREAD = 2.25
# scikit-learn sorts all pairs: of 60,502 images they alone would be 7 GB.
_MOST_FOR_SCIKIT_LEARN = 6_000
_ROUNDS = 3
# From so many images on each is timed once, after a round that is not counted.
_MANY = 30_000
_RATES = (0.0001, 0.001, 0.01)
_NAMES = ("recall_at_k", "verification", "scikit-learn")


def _by_scikit_learn(rows, labels):
    """The curve of all pairs, from one product of all rows."""
    at = np.triu_indices(len(rows), 1)
    similarities = (rows @ rows.T)[at]
    same = labels[at[0]] == labels[at[1]]
    false_rates, true_rates, _ = roc_curve(same, similarities, drop_intermediate=False)
    return {"roc_auc": roc_auc_score(same, similarities)} | {
        f"true_accept_rate@{rate}": true_rates[false_rates <= rate].max()
        for rate in _RATES
    }


def _contestants(images, kind):
    """Who takes part, each giving its figures."""
    rows, labels = embeddings(images, int(images / _IMAGES_A_CLASS), _SPREAD)
    if kind != "float":
        rows = codes(labels, int(kind))
    contestants = {
        "recall_at_k": lambda: recall_at_k(rows, labels),
        "verification": lambda: verification(rows, labels, false_accept_rates=_RATES),
    }
    if images <= _MOST_FOR_SCIKIT_LEARN and kind == "float":
        contestants["scikit-learn"] = lambda: _by_scikit_learn(rows, labels)
    return contestants


def _memory_alone(images, kind, name):
    """MiB that a run adds to its process at the highest, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.benchmark_verification"]
    command += ["--images", str(images), "--kind", kind, "--only", name]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(printed.stdout.splitlines()[-1])


def _measure(images, kind):
    """A table of seconds, ratios to `recall_at_k`, memory and figures."""
    figures = {}

    def remembering(name, run):
        def remember():
            figures[name] = run()

        return remember

    runs = {
        name: remembering(name, run) for name, run in _contestants(images, kind).items()
    }
    memory = {name: _memory_alone(images, kind, name) for name in runs}
    seconds = alternating_medians(runs, 1 if images >= _MANY else _ROUNDS)
    size = f"{DIM} dimensions" if kind == "float" else f"{kind} bits"
    pairs = images * (images - 1) // 2
    lines = [
        f"{images:,} images, {size}, {pairs:,} pairs:\n",
        "| | seconds | × recall_at_k | MiB | TAR at FAR 0.1 % | area |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in runs:
        found = figures[name]
        cells = [name, f"{seconds[name]:.2f}"]
        cells += [f"{seconds[name] / seconds['recall_at_k']:.2f}"]
        cells += [f"{memory[name]:,.0f}"]
        cells += [
            f"{100 * found[key]:.4f}" if key in found else "–"
            for key in ("true_accept_rate@0.001", "roc_auc")
        ]
        lines.append(f"| {' | '.join(cells)} |")
    table = "\n".join(lines) + "\n"
    print(table, flush=True)
    return table


def main():
    """Prints the tables, and writes them if they are all there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--images", type=int, help="default: the sizes of BENCHMARKS.md"
    )
    parser.add_argument("--kind", choices=("float", "512"), default="float")
    parser.add_argument(
        "--only", choices=_NAMES, help="with --images: print the MiB of one contestant"
    )
    arguments = parser.parse_args()
    pin_threads()
    if arguments.only:
        run = _contestants(arguments.images, arguments.kind)[arguments.only]
        before = resident_mib()
        print(json.dumps(peak_mib(run) - before))
        return
    if arguments.images:
        _measure(arguments.images, arguments.kind)
        return
    about = textwrap.fill(
        f"`make benchmark-verification`, on {machine('numpy', 'scikit-learn')}. "
        f"Medians of {_ROUNDS} rounds in which the contestants take turns, of more "
        f"than {_MANY:,} images of one, after another that is not counted. Memory was "
        "measured in a process for each.",
        width=88,
        break_on_hyphens=False,
    )
    print(about + "\n")
    tables = [
        _measure(_MOST_FOR_SCIKIT_LEARN, "float"),
        _measure(_IMAGES, "float"),
        _measure(_IMAGES, "512"),
    ]
    write_measured("verification", "\n".join([about + "\n", *tables]))


if __name__ == "__main__":
    main()
