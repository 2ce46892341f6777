"""Shows a page in the browser to search a run's images, or your own, by image.

python -m experiments.search_page --run=saved_models/RUN

Then open http://127.0.0.1:8000. Drop or paste an image, or click one of the gallery, to
see the nearest with their scores; compare by cosine, by binary code or exactly; and see
the run's table and curves. --index=photos.index searches a gallery that
experiments.index wrote; one of --kind=lance is shown as it grows.

The page works without internet and sends nothing anywhere. It listens on this machine
alone, unless --host says otherwise; there is no password, so leave it so where others
reach the machine. Needs pip install "keras_dml[page]".
"""

import importlib.util
import pathlib

from absl import flags

from experiments._lib import program
from experiments._lib.load_run import load_embedder
from experiments._lib.load_run import load_run_config
from keras_dml import search

_RUN = flags.DEFINE_string("run", None, "The folder of a run.")
_INDEX = flags.DEFINE_string(
    "index", None, "A gallery that experiments.index wrote. Default: RUN/index."
)
_HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "The name of this machine, or its IPv4 address, that people type in the browser.",
)
_PORT = flags.DEFINE_integer(
    "port", 8000, "The port; 0 takes a free one.", lower_bound=0, upper_bound=65535
)
_K = flags.DEFINE_integer("k", 24, "How many images to find.", lower_bound=1)
flags.mark_flag_as_required("run")


def main(argv: list[str]) -> None:
    """Gallery → page."""
    del argv
    if not all(map(importlib.util.find_spec, ("starlette", "uvicorn"))):
        raise ImportError('the page needs Starlette: pip install "keras_dml[page]"')
    from experiments._page.app import search_app
    from experiments._page.serve import serve
    from experiments._page.shown_gallery import ShownGallery

    if ":" in _HOST.value:
        raise ValueError(
            f"--host must be a name or an IPv4 address; got {_HOST.value!r}."
        )
    run = pathlib.Path(_RUN.value)
    load_run_config(run)
    embedder = load_embedder(run / "embedding.keras")
    gallery = search.load_gallery(_INDEX.value or run / "index")
    shown = ShownGallery(gallery, embedder, _K.value)
    app = search_app(shown, run, [_HOST.value, "127.0.0.1", "localhost"])
    serve(app, _HOST.value, _PORT.value)


if __name__ == "__main__":
    program.run(main)
