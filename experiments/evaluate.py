r"""Measures a saved embedding model on the test classes of a data set.

python -m experiments.evaluate --model=saved_models/RUN/embedding.keras \
    --config=experiments/configs/glyphs.py

Prints the metrics of retrieval: by exact search, with binary codes, and through an
approximate index, with its agreement with exact search and the time that each takes.
With --output it also writes them as JSON.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from experiments._lib import program
from experiments._lib.bad_images import find_bad_images
from experiments._lib.bad_images import skips_bad_images
from experiments._lib.build import load_data
from experiments._lib.check_config import check_config
from experiments._lib.load_run import load_embedder
from experiments._lib.load_run import load_run_config
from experiments._lib.measure import measure
from keras_dml import evaluation
from keras_dml._files import check_writable_file
from keras_dml._files import write_json

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "A file of experiments/configs/, the one of the run.",
    lock_config=True,
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The folder that holds the data set.")
_MODEL = flags.DEFINE_string("model", None, "The embedding.keras of a run.")
_OUTPUT = flags.DEFINE_string("output", None, "A JSON file to write the metrics to.")
flags.mark_flags_as_required(["config", "model"])


def main(argv: list[str]) -> None:
    """Data set → embeddings → metrics."""
    del argv
    config = _CONFIG.value
    check_config(config)
    if _OUTPUT.value:
        check_writable_file(_OUTPUT.value, "--output")
    _check_run_agrees(config, pathlib.Path(_MODEL.value).parent)
    embedder = load_embedder(_MODEL.value)
    _, test = load_data(config, _DATA_DIR.value, not skips_bad_images())
    test = test.without(find_bad_images(test))
    _, _, metrics = measure(config, embedder, test)
    print(f"\nRetrieval on the test classes, %\n{evaluation.format_table(metrics)}")
    if _OUTPUT.value:
        write_json(_OUTPUT.value, metrics)


def _check_run_agrees(config, run):
    """Checks that images are resized and classes are split as in training."""
    if not (run / "config.json").is_file():
        return
    trained = load_run_config(run)
    names = ["resize"]
    if trained.get("data", {}).get("loader") == config.data.loader:
        names += ["seed", "data"]
    for name in names:
        given = config.to_dict()[name]
        if trained.get(name) != given:
            raise ValueError(
                f"--config.{name} is {given!r}, but the run was trained with "
                f"{trained.get(name)!r}; give it the same."
            )


if __name__ == "__main__":
    program.run(main)
