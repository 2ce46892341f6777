r"""Searches a gallery for the images nearest to yours.

python -m experiments.search --run=saved_models/RUN --image=photo.jpg [--image=...]

Searches the test images of the run, or with --index a gallery of your own images that
experiments.index wrote. Prints how far the search agrees with exact search, and for
each image the nearest ones: cosine, class and file. To see them too:

python -m experiments.search --run=saved_models/RUN --image=photo.jpg --picture=row.png

--codes compares binary codes, by minus the number of bits that differ, and --exact
every image where an index was approximate. A gallery of experiments.index --kind=lance
can be filtered: --where="class = 'wren'".
"""

import pathlib

from absl import flags

from experiments._lib import program
from experiments._lib.load_run import load_embedder
from experiments._lib.load_run import load_run_config
from experiments._lib.matches_picture import draw_matches
from experiments._lib.measure import describe_agreement
from keras_dml import search
from keras_dml._files import check_writable_file

_RUN = flags.DEFINE_string("run", None, "The folder of a run.")
_INDEX = flags.DEFINE_string(
    "index", None, "A gallery that experiments.index wrote. Default: RUN/index."
)
_IMAGES = flags.DEFINE_multi_string("image", None, "An image file to search for.")
_K = flags.DEFINE_integer("k", 10, "How many images to find.", lower_bound=1)
_CODES = flags.DEFINE_bool("codes", False, "Compare binary codes, exactly.")
_EXACT = flags.DEFINE_bool("exact", False, "Compare with every image of the gallery.")
_WHERE = flags.DEFINE_string(
    "where",
    None,
    "A condition in SQL that images must meet, on id, class, size (bytes) and modified "
    "(ns), such as \"class = 'wren'\". For galleries of --kind=lance.",
)
_PICTURE = flags.DEFINE_string(
    "picture", None, "A PNG file to draw each image and its nearest to."
)
flags.mark_flags_as_required(["run", "image"])


def main(argv: list[str]) -> None:
    """Images → embeddings → nearest images."""
    del argv
    run = pathlib.Path(_RUN.value)
    load_run_config(run)
    if _PICTURE.value:
        check_writable_file(_PICTURE.value, "--picture")
    gallery = search.load_gallery(_INDEX.value or run / "index")
    options = {"codes": _CODES.value, "exact": _EXACT.value}
    if _WHERE.value is not None:
        if not isinstance(gallery, search.LanceGallery):
            raise ValueError(
                "--where needs a gallery of experiments.index --kind=lance; this one "
                "is sealed."
            )
        options["where"] = _WHERE.value
    embedder = load_embedder(run / "embedding.keras")
    matches = gallery.search(embedder, _IMAGES.value, _K.value, **options)
    is_exact = _CODES.value or _EXACT.value or _WHERE.value is not None
    print("The search is exact." if is_exact else describe_agreement(gallery, _K.value))
    for query, image in enumerate(_IMAGES.value):
        print(image)
        if not any(matches.names[query]):
            print("  nothing found")
        found = (matches.scores, matches.classes, matches.names)
        for score, class_name, name in zip(*(of[query] for of in found), strict=True):
            if name:
                shown = f"{score:.0f}" if _CODES.value else f"{score:.3f}"
                print(f"  {shown}  {class_name}  {name}")
    if _PICTURE.value:
        draw_matches(_PICTURE.value, _IMAGES.value, matches)
        print(_PICTURE.value)


if __name__ == "__main__":
    program.run(main)
