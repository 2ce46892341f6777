r"""Tests the paper's claims on a data set, one setting changed at a time.

python -m experiments.ablation --config=experiments/configs/glyphs.py \
    --output_dir=saved_models/ablation

Trains the config as it is, and varied: without layer normalization, with other
temperatures, images per class (in a batch of the same size) and dimensions, with plain
sampling, and with a softmax over a share of the classes. Each is trained with every
seed and measured by exact search. Prints a table of the mean and the standard deviation
over seeds, and writes to the folder:

  table.md      that table
  results.csv   a row a run, with every figure
  claims.png    the table as plots
  runs/         a JSON file a run

If it is stopped and started again with the same settings, it continues where it was.

A run whose loss or embeddings become infinite or NaN has failed: the others go on, and
the table is over the seeds that finished and says which failed, and why. That a
setting diverges is a finding, so the exit code is 0 unless no run is left to report on.
A failed run leaves no file: it is tried again when the program is.
"""

import itertools
import pathlib

import tensorflow as tf
from absl import flags
from ml_collections import config_flags

from experiments._lib import program
from experiments._lib.bad_images import find_bad_images
from experiments._lib.bad_images import list_bad_images
from experiments._lib.bad_images import skips_bad_images
from experiments._lib.build import load_data
from experiments._lib.check_config import check_config
from experiments._lib.check_config import check_replicas
from experiments._lib.check_config import checked_seeds
from experiments._studies import claims
from experiments._studies.ablation_report import write_ablation_report
from experiments._studies.runs_folder import open_runs_folder
from experiments._studies.runs_folder import read_run
from experiments._studies.runs_folder import run_once
from keras_dml import training

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "A file of experiments/configs/ with the settings to vary.",
    lock_config=True,
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The folder that holds the data set.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "The folder of the results, a new one or one to continue."
)
_SEEDS = flags.DEFINE_list(
    "seeds", ["0", "1", "2"], "Every variant is trained once with each of these."
)
_CLAIMS = flags.DEFINE_multi_enum(
    "claim",
    list(claims.CLAIMS),
    list(claims.CLAIMS),
    "A claim to test.",
)
flags.mark_flags_as_required(["config", "output_dir"])


def main(argv: list[str]) -> None:
    """Every variant × every seed → training → metrics → table and plots."""
    del argv
    config = _CONFIG.value
    check_config(config)
    if config.validation_classes:
        raise ValueError(
            "--config.validation_classes must be 0 here, as the weights kept are the "
            f"last ones; got {config.validation_classes!r}."
        )
    seeds = checked_seeds(_SEEDS.value)
    strategy = training.mirrored_strategy()
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    train, test = load_data(config, _DATA_DIR.value, not skips_bad_images())
    variants = {
        claim: claims.variants_of(claim, config, len(train.class_names))
        for claim in _CLAIMS.value
    }
    todo = {}
    for claim, claim_variants in variants.items():
        for variant, seed in itertools.product(claim_variants, seeds):
            varied = _varied(config, variant, seed)
            _check_varied(varied, claim, strategy.num_replicas_in_sync)
            todo[f"{variant.name},seed={seed}"] = varied
    bad = find_bad_images(test, train=train)
    train, test = train.with_replaced(bad), test.without(bad)

    folder = pathlib.Path(_OUTPUT_DIR.value)
    open_runs_folder(folder, config)
    skipped = list_bad_images(folder, bad)
    files = {name: folder / "runs" / f"{name}.json" for name in todo}
    runs = {
        name: read_run(file, test) for name, file in files.items() if file.is_file()
    }
    failed = {}
    print(f"{len(todo)} runs, {len(runs)} of them finished before; writing {folder}")
    for number, (name, varied) in enumerate(todo.items(), 1):
        if name in runs:
            continue
        print(f"\n{number} of {len(todo)}:", end=" ")
        try:
            runs[name] = run_once(files[name], varied, strategy, train, test)
        except FloatingPointError as error:
            print(f"{name} failed: {error}")
            failed[name] = str(error)
    if not runs:
        raise FloatingPointError(
            "every run failed, so there is no table. Give a lower "
            "--config.learning_rate."
        )
    print("\n" + write_ablation_report(folder, variants, seeds, runs, failed))
    print(skipped, end="")


def _varied(config, variant, seed):
    varied = config.copy_and_resolve_references()
    with varied.unlocked():
        # So that no difference between variants is that of an approximate search.
        varied.update({**variant.overrides, "seed": seed, "index": "exact"})
    return varied


def _check_varied(varied, claim, replicas):
    try:
        if claim == "temperature" and varied.loss != "normalized_softmax":
            raise ValueError(f"--config.loss={varied.loss} has no temperature.")
        check_config(varied)
        check_replicas(varied, replicas)
    except ValueError as error:
        raise ValueError(
            f"the claim {claim!r} can't be tested: {error} Name the others, each with "
            "--claim."
        ) from None


if __name__ == "__main__":
    program.run(main)
