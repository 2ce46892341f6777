"""Finds the images of a run's index that are nearest to yours.

python -m experiments.search --run=saved_models/RUN --image=photo.jpg [--image=...]

Prints how far the run's index agrees with exact search, and then, for each image, its
nearest ones through that index: cosine, class and file.
"""

import pathlib

import numpy as np
from absl import flags

from experiments import program
from experiments.load_run import load_embedder
from experiments.load_run import load_run_config
from keras_dml import data
from keras_dml import evaluation
from keras_dml import serving

_RUN = flags.DEFINE_string("run", None, "The folder of a run.")
_IMAGES = flags.DEFINE_multi_string("image", None, "An image file; may be repeated.")
_K = flags.DEFINE_integer("k", 5, "How many to find.", lower_bound=1)
flags.mark_flags_as_required(["run", "image"])


def main(argv):
    """Images → embeddings → neighbours."""
    del argv
    run = pathlib.Path(_RUN.value)
    config = load_run_config(run)
    for file in _IMAGES.value:
        if not pathlib.Path(file).is_file():
            raise FileNotFoundError(f"no image file {file!r}.")
    embedder = load_embedder(run / "embedding.keras")
    gallery = serving.load_gallery_index(run / "index")
    queries = data.ImageDataset(
        _IMAGES.value, np.zeros(len(_IMAGES.value), int), ("query",)
    )
    embeddings = evaluation.embed(embedder, queries, config["resize"], verbose=0)
    print(_agreement(gallery.neighbours, _K.value))
    found, cosines = gallery.neighbours.search(embeddings, _K.value)
    for file, rows, similarities in zip(_IMAGES.value, found, cosines, strict=True):
        print(file)
        for row, cosine in zip(rows, similarities, strict=True):
            if row >= 0:
                print(f"  {cosine:.3f}  {gallery.classes[row]}  {gallery.paths[row]}")


def _agreement(index, k):
    """Says how far to trust what an index finds."""
    if index.kind == "exact":
        return "The search is exact."
    calibration = index.calibration
    if calibration is None:
        return f"How far the {index.kind} index agrees with exact search is not known."
    line = (
        f"The {index.kind} index agreed with exact search on "
        f"{100 * calibration.agreement:.1f} % of the {calibration.k} nearest."
    )
    if k > calibration.k:
        line += f" For {k} it was not measured, and may be less."
    return line


if __name__ == "__main__":
    program.run(main)
