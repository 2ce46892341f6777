"""A gallery that grows to a million images: building, size, agreement, search.

Synthetic embeddings of 512 dimensions, some 20 images a class, whose variance falls as
k^-1.1 with the dimension k. They are put in 10,000 at a time, as `experiments.index
--from` does, and calibrated to agree on 99 % of the 10 nearest. The agreement in the
table is measured anew, on queries that are not in the gallery, against faiss's exact
search.
Run it with `make benchmark-large-gallery`, which writes the table into BENCHMARKS.md;
`--images=50000` only prints one of fewer images.
"Groups" are those that the index makes, one around each of its centers.
"""

import argparse
import pathlib
import tempfile
import textwrap
import time

import faiss
import numpy as np

from keras_dml.search import LanceGallery
from tests.benchmarks.alternating_medians import pin_threads
from tests.benchmarks.machine import machine
from tests.benchmarks.measured_section import write_measured
from tests.benchmarks.peak_memory import peak_mib
from tests.benchmarks.peak_memory import resident_mib
from tests.benchmarks.synthetic_classes import DIM
from tests.benchmarks.synthetic_classes import embeddings

_SIZES = (100_000, 1_000_000)
_QUERIES = 500
_PUT_AT_ONCE = 10_000
_K = 10
_SPREAD, _DECAY = 1.0, 1.1
_COLUMNS = (
    "images",
    "put in, s",
    "merged, s",
    "index and calibration, s",
    "at most, MiB",
    "GB",
    "groups compared",
    "ms a query",
    "exact, ms",
    "agreement",
)


def main() -> None:
    """Measures and prints, and writes BENCHMARKS.md if no other size is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, help="measure this size alone")
    asked = parser.parse_args().images
    pin_threads()
    lines = [f"| {' | '.join(_COLUMNS)} |", "| --- " * len(_COLUMNS) + "|"]
    for count in _SIZES if asked is None else (asked,):
        lines.append(f"| {' | '.join(_measured(count))} |")
        print(lines[-1], flush=True)
    note = (
        f"`make benchmark-large-gallery`, once, on {machine('lancedb', 'faiss-cpu')}."
    )
    table = "\n".join(lines)
    print(table)
    if asked is None:
        write_measured("large gallery", f"{table}\n\n{textwrap.fill(note, 88)}")


def _measured(count):
    """The cells of a row of the table."""
    rows, _ = embeddings(count + _QUERIES, count // 20, _SPREAD, _DECAY)
    rows, queries = np.ascontiguousarray(rows[:count]), rows[count:]
    flat = faiss.IndexFlatIP(DIM)
    flat.add(rows)
    _, nearest = flat.search(queries, _K)
    del flat
    seconds, mib = {}, {}

    def timed(name, run):
        before, start = resident_mib(), time.perf_counter()
        mib[name] = peak_mib(run) - before
        seconds[name] = time.perf_counter() - start
        print(f"{name}: {seconds[name]:.1f} s, {mib[name]:.0f} MiB", flush=True)

    with tempfile.TemporaryDirectory() as name:
        gallery = LanceGallery.create(pathlib.Path(name, "gallery"), DIM, 28, 32)

        def put():
            for start in range(0, count, _PUT_AT_ONCE):
                some = range(start, min(start + _PUT_AT_ONCE, count))
                ids = [f"{row:07}" for row in some]
                gallery.put_embeddings(rows[some.start : some.stop], ids)

        timed("putting in", put)
        timed("optimizing", gallery.optimize)
        timed("index and calibration", lambda: gallery.calibrate(_K))
        size = sum(file.stat().st_size for file in pathlib.Path(name).rglob("*.*"))
        calibration = gallery.calibration
        groups = gallery._current_index()["nprobes"]
        found = []

        def search():
            for query in queries:
                found.append(gallery.search_embeddings(query[None], _K).names[0])

        timed("searching", search)
    numbers = np.array(found).astype(int)
    agreement = np.mean(
        [len(np.intersect1d(*both)) / _K for both in zip(numbers, nearest, strict=True)]
    )
    return (
        f"{count:,}",
        f"{seconds['putting in']:.0f}",
        f"{seconds['optimizing']:.0f}",
        f"{seconds['index and calibration']:.0f}",
        f"{max(mib.values()):,.0f}",
        f"{size / 1e9:.2f}",
        f"{groups} of {round(count**0.5):,}",
        f"{1000 * seconds['searching'] / _QUERIES:.1f}",
        f"{calibration.exact_ms_per_query:,.0f}",
        f"{100 * agreement:.1f} %",
    )


if __name__ == "__main__":
    main()
