"""What a search of a gallery takes, by its kind and size, beside faiss's exact search.

Synthetic embeddings of 512 dimensions, some 20 images a class; 50 queries, one at a
time, as a page asks. The gallery that grows is filled 1,000 images at a time, searched
exactly, calibrated to agree on 99 % of the 10 nearest, and searched through its index.
The page's figure is a whole answer of the server to a click on an image of the gallery,
24 neighbors and their HTML. Run it with `make benchmark-galleries`, which writes the
table into BENCHMARKS.md; `--most=10000` only prints one of fewer rows.
"""

import argparse
import pathlib
import tempfile
import textwrap
import time

import faiss
import keras
import numpy as np
from starlette.testclient import TestClient

from experiments._page.app import search_app
from experiments._page.shown_gallery import ShownGallery
from keras_dml.data import ImageDataset
from keras_dml.search import LanceGallery
from keras_dml.search import load_gallery
from keras_dml.search import save_gallery
from tests.benchmarks.alternating_medians import alternating_medians
from tests.benchmarks.alternating_medians import pin_threads
from tests.benchmarks.machine import machine
from tests.benchmarks.measured_section import write_measured
from tests.benchmarks.synthetic_classes import DIM
from tests.benchmarks.synthetic_classes import embeddings

_SIZES = (1_000, 10_000, 100_000)
_QUERIES = 50
_ROUNDS = 5
_K = 10
_SPREAD = 0.8


def _measure(rows, queries, folder):
    """The lines of a table for one size."""
    count = len(rows)
    images = ImageDataset(
        [f"/{row}.jpg" for row in range(count)], np.zeros(count, int), ("",)
    )
    save_gallery(folder / "sealed", rows, images, 28, 32)
    sealed = load_gallery(folder / "sealed")
    growing = LanceGallery.create(folder / "growing", DIM, 28, 32)
    start = time.perf_counter()
    for begin in range(0, count, 1000):
        some = slice(begin, begin + 1000)
        growing.put_embeddings(rows[some], images.paths[some])
    growing.optimize()
    put = time.perf_counter() - start
    start = time.perf_counter()
    growing.calibrate(_K)
    calibrated = time.perf_counter() - start
    flat = faiss.IndexFlatIP(DIM)
    flat.add(rows)
    pixels = keras.Input((28, 28, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(pixels)
    embedder = keras.Model(pixels, keras.layers.Dense(DIM)(pooled))
    shown = ShownGallery(sealed, embedder, k=24)
    client = TestClient(search_app(shown, folder, ["testserver"]))

    def each(search):
        def run():
            for query in queries:
                search(query[None])

        return run

    def click():
        for number in range(_QUERIES):
            assert client.get(f"/like/{number}").status_code == 200

    seconds = alternating_medians(
        {
            "faiss IndexFlatIP": each(lambda query: flat.search(query, _K)),
            "Gallery": each(lambda query: sealed.search_embeddings(query, _K)),
            "Gallery, codes": each(
                lambda query: sealed.search_embeddings(query, _K, codes=True)
            ),
            "LanceGallery, exact": each(
                lambda query: growing.search_embeddings(query, _K, exact=True)
            ),
            "LanceGallery, codes": each(
                lambda query: growing.search_embeddings(query, _K, codes=True)
            ),
            "LanceGallery, calibrated": each(
                lambda query: growing.search_embeddings(query, _K)
            ),
            "search page, a click": click,
        },
        _ROUNDS,
    )
    agreement = growing.calibration.agreement
    size = sum(file.stat().st_size for file in (folder / "growing").rglob("*.*"))
    lines = []
    for name, taken in seconds.items():
        agrees = f"{100 * agreement:.1f} %" if "calibrated" in name else "exact"
        ratio = taken / seconds["faiss IndexFlatIP"]
        lines.append(
            f"| {count:,} | {name} | {1000 * taken / _QUERIES:.2f} | {ratio:.2f} | "
            f"{agrees} |"
        )
    about = (
        f"{count:,} images were put in {put:.1f} s and calibrated in "
        f"{calibrated:.0f} s, and took {size / 1e6:.0f} MB."
    )
    return lines, about


def main() -> None:
    """Measures and prints, and writes BENCHMARKS.md where all sizes were measured."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--most", type=int, default=max(_SIZES))
    options = parser.parse_args()
    pin_threads()
    lines = ["| images | search | ms a query | × faiss | agrees |"]
    lines.append("| --- | --- | --- | --- | --- |")
    notes = []
    for size in (size for size in _SIZES if size <= options.most):
        rows, _ = embeddings(size + _QUERIES, size // 20, _SPREAD)
        with tempfile.TemporaryDirectory() as name:
            found, about = _measure(
                np.ascontiguousarray(rows[:size]), rows[size:], pathlib.Path(name)
            )
        lines += found
        notes.append(about)
        print("\n".join(found), about, sep="\n", flush=True)
    if options.most < max(_SIZES):
        return
    note = " ".join(notes) + f" `make benchmark-galleries`; medians of {_ROUNDS} "
    note += f"alternating rounds on {machine('faiss-cpu', 'lancedb', 'starlette')}."
    table = "\n".join(lines)
    write_measured("galleries", f"{table}\n\n{textwrap.fill(note, 88)}")


if __name__ == "__main__":
    main()
