"""Tests the paper's claims on a data set, one setting changed at a time.

python -m experiments.ablation --config=experiments/configs/glyphs.py \
    --output_dir=saved_models/ablation

Trains the config as it is, and with layer normalisation left out, other temperatures,
images per class (in a batch of the same size), dimensions, and plain sampling; each
with every seed, measured by exact search. Prints a table of the mean and the standard
deviation over seeds, and writes to the folder:

  table.md      that table
  results.csv   a row a run, with every figure
  claims.png    the table as plots
  runs/         a JSON file a run

Stopped, it goes on where it was when it is started again with the same settings.
"""

import contextlib
import pathlib
import time

import keras
import tensorflow as tf
from absl import flags
from ml_collections import config_flags

from experiments import claims
from experiments import program
from experiments.ablation_report import write_ablation_report
from experiments.ablation_runs import claim_folder
from experiments.ablation_runs import finished_run
from experiments.build import build_batches
from experiments.build import build_models
from experiments.build import compile_model
from experiments.check_config import check_config
from experiments.check_replicas import check_replicas
from experiments.load_data import load_data
from experiments.measure import measure
from keras_dml import data
from keras_dml import training

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "A file of experiments/configs/; its settings are what the others differ from.",
    lock_config=True,
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The folder that holds the data set.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "The folder of the results, a new one or one to go on with."
)
_SEEDS = flags.DEFINE_list(
    "seeds", ["0", "1", "2"], "Every setting is trained once with each of these."
)
_CLAIMS = flags.DEFINE_multi_enum(
    "claim",
    list(claims.CLAIMS),
    list(claims.CLAIMS),
    "A claim to test; may be repeated. Default: all.",
)
flags.mark_flags_as_required(["config", "output_dir"])


def main(argv):
    """Every variant × every seed → training → figures → table and plots."""
    del argv
    config = _CONFIG.value
    check_config(config)
    if config.validation_classes:
        raise ValueError(
            "--config.validation_classes must be 0 here, where nothing is chosen by "
            f"them; got {config.validation_classes!r}."
        )
    seeds = _checked_seeds(_SEEDS.value)
    strategy = training.mirrored_strategy()
    tf.config.experimental.enable_op_determinism()
    train, test = load_data(config, _DATA_DIR.value)
    variants = {
        claim: claims.variants_of(claim, config, len(train.class_names))
        for claim in _CLAIMS.value
    }
    todo = {}
    for variant in (variant for some in variants.values() for variant in some):
        for seed in seeds:
            varied = _varied(config, variant, seed)
            check_config(varied)
            check_replicas(varied, strategy.num_replicas_in_sync)
            todo[f"{variant.name},seed={seed}"] = varied
    data.check_images(test)

    folder = pathlib.Path(_OUTPUT_DIR.value)
    claim_folder(folder, config)
    files = {name: folder / "runs" / f"{name}.json" for name in todo}
    runs = {
        name: finished_run(file, test) for name, file in files.items() if file.is_file()
    }
    print(f"{len(todo)} runs, {len(runs)} of them finished before; writing {folder}")
    for number, (name, varied) in enumerate(todo.items(), 1):
        if name in runs:
            continue
        start = time.monotonic()
        print(f"\n{number} of {len(todo)}: {name}")
        metrics = _train_and_measure(varied, strategy, train, test)
        runs[name] = {"seconds": round(time.monotonic() - start), "metrics": metrics}
        training.write_json(files[name], runs[name])

    print("\n" + write_ablation_report(folder, variants, seeds, runs))


def _train_and_measure(config, strategy, train, test):
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        trunk, embedder, model = build_models(config, len(train.class_names))
    batches = build_batches(config, train)
    with strategy.scope():
        compile_model(config, model, len(batches))
    epochs = config.warm_up_epochs + config.epochs
    model.fit(
        batches,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            training.WarmUp(trunk, config.warm_up_epochs),
            _EpochBar(epochs),
        ],
    )
    _, _, metrics = measure(config, embedder, test)
    return metrics


class _EpochBar(keras.callbacks.Callback):
    """A progress bar that moves once an epoch."""

    def __init__(self, epochs):
        super().__init__()
        self.bar = keras.utils.Progbar(epochs, unit_name="epoch")

    def on_epoch_end(self, epoch, logs=None):
        self.bar.update(epoch + 1, [("loss", logs["loss"])])


def _varied(config, variant, seed):
    varied = config.copy_and_resolve_references()
    with varied.unlocked():
        # Differences between settings shall not be those of an approximate search.
        varied.update({**variant.overrides, "seed": seed, "index": "exact"})
    return varied


def _checked_seeds(given):
    with contextlib.suppress(ValueError):
        seeds = [int(seed) for seed in given]
        if seeds and len(seeds) == len(set(seeds)) and min(seeds) >= 0:
            return seeds
    raise ValueError(
        "--seeds must be distinct integers of at least 0, such as 0,1,2; got "
        f"{','.join(given)!r}."
    )


if __name__ == "__main__":
    program.run(main)
