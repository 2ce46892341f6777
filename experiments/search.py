"""Searches an index for the images nearest to yours.

python -m experiments.search --run=saved_models/RUN --image=photo.jpg [--image=...]

Searches the test images of the run, or with --index an index of your own images that
experiments.index wrote. Prints how far the index agrees with exact search, and for each
image the nearest ones: cosine, class and file.
"""

import pathlib

import numpy as np
from absl import flags

from experiments._lib import program
from experiments._lib.load_run import load_embedder
from experiments._lib.load_run import load_run_config
from experiments._lib.measure import describe_agreement
from keras_dml import data
from keras_dml import evaluation
from keras_dml import search

_RUN = flags.DEFINE_string("run", None, "The folder of a run.")
_INDEX = flags.DEFINE_string(
    "index", None, "An index that experiments.index wrote. Default: RUN/index."
)
_IMAGES = flags.DEFINE_multi_string("image", None, "An image file to search for.")
_K = flags.DEFINE_integer("k", 5, "How many neighbors to find.", lower_bound=1)
flags.mark_flags_as_required(["run", "image"])


def main(argv: list[str]) -> None:
    """Images → embeddings → neighbors."""
    del argv
    run = pathlib.Path(_RUN.value)
    config = load_run_config(run)
    for file in _IMAGES.value:
        if not pathlib.Path(file).is_file():
            raise FileNotFoundError(f"no image file {file!r}.")
    embedder = load_embedder(run / "embedding.keras")
    gallery = search.load_gallery_index(_INDEX.value or run / "index")
    queries = data.ImageDataset(
        _IMAGES.value, np.zeros(len(_IMAGES.value), int), ("query",)
    )
    embeddings = evaluation.embed(embedder, queries, config["resize"], verbose=0)
    print(describe_agreement(gallery.neighbors, _K.value))
    found, cosines = gallery.neighbors.search(embeddings, _K.value)
    for file, rows, similarities in zip(_IMAGES.value, found, cosines, strict=True):
        print(file)
        for row, cosine in zip(rows, similarities, strict=True):
            if row >= 0:
                print(f"  {cosine:.3f}  {gallery.classes[row]}  {gallery.paths[row]}")


if __name__ == "__main__":
    program.run(main)
