r"""Builds a search index of your own images with the model of a run.

python -m experiments.index --run=saved_models/RUN --data_dir=photos \
    --output_dir=photos.index

Takes the images in photos/<class>/ and writes the index, a new folder. To search it:

python -m experiments.search --run=saved_models/RUN --index=photos.index \
    --image=query.jpg

An approximate index is calibrated: it searches no more than it needs to agree with
exact search on --agreement of the --k nearest. The agreement is saved with it and
printed.
"""

import importlib.util
import pathlib

from absl import flags

from experiments._lib import program
from experiments._lib.bad_images import find_bad_images
from experiments._lib.bad_images import skips_bad_images
from experiments._lib.load_run import load_embedder
from experiments._lib.load_run import load_run_config
from experiments._lib.measure import describe_agreement
from keras_dml import data
from keras_dml import evaluation
from keras_dml import search
from keras_dml._files import check_new_folder

_RUN = flags.DEFINE_string("run", None, "The folder of a run.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The folder of the images, with one folder a class."
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "The folder of the index, a new one."
)
_KIND = flags.DEFINE_enum(
    "kind",
    "exact",
    search.KINDS,
    "How to search. Up to about 100,000 images exact search is often the fastest.",
)
_K = flags.DEFINE_integer(
    "k", 10, "How many neighbors the index is calibrated for.", lower_bound=1
)
_AGREEMENT = flags.DEFINE_float(
    "agreement",
    0.99,
    "The share of the exact nearest neighbors that an approximate index is to find.",
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "The seed of an approximate index.", lower_bound=0, upper_bound=2**31 - 1
)
flags.register_validator(
    "agreement",
    lambda share: 0 < share <= 1,
    message="must be a share, above 0 and at most 1",
)
flags.mark_flags_as_required(["run", "data_dir", "output_dir"])


def main(argv: list[str]) -> None:
    """Images → embeddings → index."""
    del argv
    run = pathlib.Path(_RUN.value)
    output_dir = pathlib.Path(_OUTPUT_DIR.value)
    check_new_folder(output_dir, "--output_dir")
    if _KIND.value == "hnsw" and not importlib.util.find_spec("faiss"):
        raise ImportError('--kind=hnsw needs faiss: pip install "keras_dml[faiss]"')
    config = load_run_config(run)
    gallery = data.class_folders(_DATA_DIR.value, check_files=not skips_bad_images())
    embedder = load_embedder(run / "embedding.keras")
    gallery = gallery.without(find_bad_images(gallery))
    index = search.calibrated_neighbors(
        _KIND.value,
        evaluation.embed(embedder, gallery, config["resize"]),
        _K.value,
        target=_AGREEMENT.value,
        seed=_SEED.value,
    )
    search.save_gallery_index(output_dir, index, gallery)
    agreement = describe_agreement(index, _K.value)
    print(f"{output_dir}: {len(gallery):,} images. {agreement}")


if __name__ == "__main__":
    program.run(main)
