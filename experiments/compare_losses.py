r"""Compares the losses of experiments/_lib/losses.py on a data set.

python -m experiments.compare_losses --config=experiments/configs/glyphs.py \
    --output_dir=saved_models/losses

Every loss trains the same network on the same number of images.

First each loss's learning rate is chosen. A quarter of the training classes, or
--config.validation_classes of them, is set aside to measure R@1 on; 0.3, 1 and 3 times
the loss's own rate are tried with the first seed, and more as long as the best is the
lowest or the highest.

Then each loss is trained with that rate on all training classes, once with every seed,
and measured on the test classes by exact search. Its own parameters are those of its
paper, but for config.temperature, which the normalized softmax takes; all else is the
config's. config.class_weights is for the losses that have any.

A run whose loss or embeddings become infinite or NaN has failed, and the others go on.
A rate that failed counts as a recall of 0. The tables are over the seeds that finished,
and the reasons are below them; a loss of which no seed finished, or no rate, is left
out. That a loss diverges is a finding, so the exit code is 0 unless none is left. A
failed run leaves no file: it is tried again when the program is.

The program prints two tables and writes to the folder:

  table.md         these tables: metrics with their spread over seeds; the rates tried
  results.csv      a row a run, with every metric
  search.csv       a row a rate tried
  comparison.png   the metrics as a plot
  runs/            a JSON file a run

If it is stopped and started again with the same settings, it continues where it was. So
several processes can share the work: give all the same --output_dir and each other
losses, and start one with all losses at the end, which only has to write the tables.
"""

import pathlib

import tensorflow as tf
from absl import flags
from ml_collections import config_flags

from experiments._lib import program
from experiments._lib.bad_images import find_bad_images
from experiments._lib.bad_images import list_bad_images
from experiments._lib.bad_images import skips_bad_images
from experiments._lib.build import learning_rate_of
from experiments._lib.build import load_data
from experiments._lib.check_config import check_config
from experiments._lib.check_config import check_replicas
from experiments._lib.check_config import checked_seeds
from experiments._lib.losses import LOSSES
from experiments._lib.losses import batch_shape
from experiments._studies.comparison_report import ComparedLoss
from experiments._studies.comparison_report import write_comparison_report
from experiments._studies.runs_folder import open_runs_folder
from experiments._studies.runs_folder import run_once
from experiments._studies.search_learning_rate import best_rate
from experiments._studies.search_learning_rate import search_learning_rate
from keras_dml import training

_VALIDATION_CLASSES = 0.25

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "A file of experiments/configs/ with the settings that all losses share.",
    lock_config=True,
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The folder that holds the data set.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "The folder of the results, a new one or one to continue."
)
_SEEDS = flags.DEFINE_list(
    "seeds", ["0", "1", "2"], "Every loss is trained once with each of these."
)
_LOSSES = flags.DEFINE_multi_enum(
    "loss", list(LOSSES), list(LOSSES), "A loss to compare."
)
_RATES = flags.DEFINE_integer(
    "rates", 5, "The most learning rates to try for a loss.", lower_bound=3
)
flags.mark_flags_as_required(["config", "output_dir"])


def main(argv: list[str]) -> None:
    """Every loss → its learning rate → every seed → metrics → tables and plot."""
    del argv
    config = _CONFIG.value
    check_config(config)
    seeds = checked_seeds(_SEEDS.value)
    strategy = training.mirrored_strategy()
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    train, test = load_data(config, _DATA_DIR.value, not skips_bad_images())
    train_part, validation = train.split_by_class(
        config.validation_classes or _VALIDATION_CLASSES, config.seed
    )
    for name in _LOSSES.value:
        varied = _varied(config, name, 1.0, seeds[0])
        check_config(varied)
        check_replicas(varied, strategy.num_replicas_in_sync)
        _check_classes(varied, train_part)
    bad = find_bad_images(validation, test, train=train_part)
    train, train_part = train.with_replaced(bad), train_part.with_replaced(bad)
    validation, test = validation.without(bad), test.without(bad)

    folder = pathlib.Path(_OUTPUT_DIR.value)
    open_runs_folder(folder, config)
    skipped = list_bad_images(folder, bad)

    def run(kind, varied, *data_sets):
        name = f"{kind},loss={varied.loss},learning_rate={_rate(varied)}"
        file = folder / "runs" / f"{name},seed={varied.seed}.json"
        return run_once(file, varied, strategy, *data_sets)

    def compare(name):
        failed = {}

        def validation_recall(multiple):
            varied = _varied(config, name, multiple, seeds[0], nmi_starts=0)
            try:
                metrics = run("validation", varied, train_part, validation)["metrics"]
            except FloatingPointError as error:
                print(f"{error} It counts as a recall of 0.")
                failed[float(_rate(varied)), None] = str(error)
                return 0.0
            return metrics["float"]["recall@1"]

        recalls = search_learning_rate(validation_recall, _RATES.value)
        if len(failed) == len(recalls):
            raise FloatingPointError(
                f"with --config.loss={name} every learning rate tried diverged."
            )
        runs = {}
        for seed in seeds:
            varied = _varied(config, name, best_rate(recalls), seed)
            try:
                runs[seed] = run("test", varied, train, test)
            except FloatingPointError as error:
                print(f"{error} Seed {seed} has failed.")
                failed[float(_rate(varied)), seed] = last = str(error)
        if not runs:
            raise FloatingPointError(last)
        searched = {
            float(_rate(_varied(config, name, multiple, seeds[0]))): recall
            for multiple, recall in recalls.items()
        }
        return ComparedLoss(name, searched, runs, failed)

    compared, left_out = [], {}
    for name in _LOSSES.value:
        try:
            compared.append(compare(name))
        except FloatingPointError as error:
            print(f"{error} The tables leave {name} out.")
            left_out[name] = str(error)
    if not compared:
        raise FloatingPointError(
            "every loss diverged, so there are no tables. Give a lower "
            "--config.learning_rate."
        )
    print("\n" + write_comparison_report(folder, compared, left_out))
    print(skipped, end="")


def _rate(config):
    """The learning rate that a config's training starts with, as text."""
    return f"{learning_rate_of(config):g}"


def _varied(config, loss, multiple, seed, **others):
    varied = config.copy_and_resolve_references()
    if LOSSES[loss].is_pair_loss:
        others["class_weights"] = "random"  # which it does not have
    with varied.unlocked():
        varied.update(
            {
                "loss": loss,
                "learning_rate": config.learning_rate * multiple,
                "seed": seed,
                "validation_classes": 0.0,
                # So that no difference between losses is that of approximate search.
                "index": "exact",
                **others,
            }
        )
    return varied


def _check_classes(config, train_part):
    classes, images = batch_shape(config)
    if config.balanced and classes > len(train_part.class_names):
        raise ValueError(
            f"a batch of --config.loss={config.loss} has {classes} classes of {images} "
            f"images, and {len(train_part.class_names)} classes are left to train on "
            "beside those for validation. Give fewer --config.classes, or leave the "
            "loss out by naming the others with --loss."
        )


if __name__ == "__main__":
    program.run(main)
