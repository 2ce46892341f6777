"""Measures a saved embedding model on the test classes of a data set.

python -m experiments.evaluate --model=saved_models/RUN/embedding.keras \
    --config=experiments/configs/glyphs.py

Prints the Recall@K table: exact, with binary codes, and through an Annoy index with
its agreement with the exact search. With --output it also writes the figures as JSON.
"""

from absl import flags
from ml_collections import config_flags

from experiments import program
from experiments.load_data import load_data
from experiments.load_run import load_embedder
from keras_dml import evaluation
from keras_dml import training

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of experiments/configs/.", lock_config=True
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The folder that holds the data set.")
_MODEL = flags.DEFINE_string("model", None, "An embedding.keras file of a run.")
_OUTPUT = flags.DEFINE_string("output", None, "A JSON file for the figures.")
flags.mark_flags_as_required(["config", "model"])


def main(argv):
    """Data set → embeddings → metrics."""
    del argv
    config = _CONFIG.value
    embedder = load_embedder(_MODEL.value)
    _, test = load_data(config, _DATA_DIR.value)
    embeddings = evaluation.embed(embedder, test, config.resize)
    metrics = evaluation.retrieval_metrics(
        embeddings,
        test.labels,
        test.is_query,
        config.ks,
        trees=config.annoy_trees,
        seed=config.seed,
    )
    if _OUTPUT.value:
        training.write_json(_OUTPUT.value, metrics)
    print(f"\nRecall@K on the test classes, %\n{evaluation.format_table(metrics)}")


if __name__ == "__main__":
    program.run(main)
