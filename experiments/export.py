"""Writes a run's embedding model as a SavedModel for TF Serving.

python -m experiments.export --run=saved_models/RUN

Writes the next version, RUN/serving/2 after RUN/serving/1, and leaves earlier ones as
they are; TF Serving serves the highest. The signatures are serving_default (encoded
image bytes) and images (pixels); both return embedding (float32) and code (packed
bits).
"""

import pathlib

from absl import flags

from experiments._lib import program
from experiments._lib.load_run import load_embedder
from experiments._lib.load_run import load_run_config
from keras_dml import serving

_RUN = flags.DEFINE_string("run", None, "The folder of a run.")
flags.mark_flag_as_required("run")


def main(argv: list[str]) -> None:
    """Model → SavedModel."""
    del argv
    run = pathlib.Path(_RUN.value)
    config = load_run_config(run)
    embedder = load_embedder(run / "embedding.keras")
    versions = [
        int(folder.name) for folder in run.glob("serving/*") if folder.name.isdecimal()
    ]
    folder = run / "serving" / str(max(versions, default=0) + 1)
    serving.export(embedder, folder, config["resize"])
    print(folder)


if __name__ == "__main__":
    program.run(main)
