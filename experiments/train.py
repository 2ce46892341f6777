"""Trains an embedding model, measures it, indexes the test images and exports it.

python -m experiments.train --config=experiments/configs/glyphs.py

Any setting of the config file can be overridden, as with --config.epochs=5
--config.trunk=resnet50. Written to the folder of the run:

  embedding.keras    the model from images to embeddings, for Keras
  trunk.weights.h5   the weights of its trunk, for --config.weights of another run
  serving/1/         the embedding model as a SavedModel, for TF Serving; TensorFlow
                     alone writes it, and experiments.export of a run on JAX or PyTorch
  index/             the test images as a gallery, for experiments.search
  metrics.json       metrics on the test classes: exact, binary, through the index; NMI;
                     and those of the model before training
  untrained.json     the latter, also on the validation classes
  report/            retrieved images and training curves; open index.html
  config.json        the settings
  checkpoints/       what the run goes on from; may be deleted when it is finished
  log.csv            loss and recall after each epoch
  tensorboard/       the same, for TensorBoard, and the test embeddings with thumbnails
                     for its Embedding Projector
  bad_images.txt     with --on_bad_image=skip: images that took no part, and why

A loss that becomes infinite or NaN ends the run with exit code 2 and a line that names
the step, the learning rate and the newest good checkpoint; nothing is saved after it.

KERAS_BACKEND=jax or KERAS_BACKEND=torch before the command trains on those.

With TF_CONFIG in its environment it trains on several workers: the same command is
started on each, and the first alone writes. docs/several_machines.md has the whole.
"""

import contextlib
import datetime
import pathlib
import signal
import sys
import tempfile

import keras
import tensorflow as tf
from absl import flags
from ml_collections import config_flags

from experiments._lib import program
from experiments._lib.bad_images import find_bad_images
from experiments._lib.bad_images import list_bad_images
from experiments._lib.bad_images import skips_bad_images
from experiments._lib.best_weights import BestWeights
from experiments._lib.build import build_batches
from experiments._lib.build import build_models
from experiments._lib.build import compile_model
from experiments._lib.build import load_data
from experiments._lib.build import start_class_weights
from experiments._lib.check_config import check_config
from experiments._lib.check_config import check_replicas
from experiments._lib.check_config import check_workers_agree
from experiments._lib.losses import find_loss
from experiments._lib.measure import describe_gain
from experiments._lib.measure import measure
from experiments._lib.measure import measure_untrained
from experiments._lib.replicas import start_replicas
from experiments._lib.run_folder import CHECKPOINTS
from experiments._lib.run_folder import extend_run
from experiments._lib.run_folder import is_finished
from experiments._lib.run_folder import open_run_folder
from experiments._lib.tensorboard import EpochTensorBoard
from keras_dml import evaluation
from keras_dml import search
from keras_dml import serving
from keras_dml import training
from keras_dml._files import atomic_file
from keras_dml._files import write_json
from keras_dml._ops import IS_KERAS_2

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "A file with the settings, such as experiments/configs/glyphs.py; "
    "experiments/configs/recipe.py explains them.",
    lock_config=True,
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "The folder that holds the data set; glyphs and glyph_strings need none.",
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "The folder of the run: new, or that of a run with the same settings, which goes "
    "on where it stopped. Default: saved_models/CONFIG-DATE-TIME.",
)
_EXTEND = flags.DEFINE_bool(
    "extend", False, "Let --config.epochs be more than the run began with."
)
_CHECKPOINT_MINUTES = flags.DEFINE_float(
    "checkpoint_minutes",
    5,
    "Save what the run goes on from every so many minutes.",
    lower_bound=0,
)
_KEEP = flags.DEFINE_integer(
    "keep", 2, "How many checkpoints stay; the newest undamaged counts.", lower_bound=2
)
_LOGICAL_CPUS = flags.DEFINE_integer(
    "logical_cpus", 0, "Train on this many replicas on the CPU, to try it without GPUs."
)
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    """Data set → batches → model → embeddings → metrics → files of the run."""
    del argv
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    config = _CONFIG.value
    check_config(config)
    replicas = start_replicas(_LOGICAL_CPUS.value)
    check_replicas(config, replicas.count)
    check_workers_agree(config)
    run = pathlib.Path(
        training.from_chief(_OUTPUT_DIR.value or str(_default_output_dir()))
    )
    if training.from_chief(
        training.is_chief() and is_finished(run, config, _EXTEND.value)
    ):
        print(f"{run} is finished already; nothing is left to do.")
        return
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()

    train, test = load_data(config, _DATA_DIR.value, not skips_bad_images())
    validation = None
    if config.validation_classes:
        train, validation = train.split_by_class(config.validation_classes, config.seed)
    with replicas.scope():
        trunk, embedder, model = build_models(config, len(train.class_names))
    bad = find_bad_images(validation, test, train=train)
    train, test = train.with_replaced(bad), test.without(bad)
    validation = validation and validation.without(bad)
    batches = build_batches(config, train)
    with replicas.scope():
        compile_model(config, model, len(batches), trunk)
    with _open_folder(run, config) as folder:
        skipped = list_bad_images(folder, bad)
        print(
            f"Training {config.trunk} on {len(train):,} images of "
            f"{len(train.class_names):,} classes with {replicas.count} replica(s)."
            f"\nWriting {run}"
        )
        try:
            start_class_weights(config, model, embedder, train)
            untrained = measure_untrained(
                config, embedder, folder / "untrained.json", test=test, val=validation
            )
            callbacks = _callbacks(
                config, run, folder, trunk, embedder, test, validation, untrained
            )
            resume = _resume(run, batches, callbacks)
            if training.is_chief():
                extend_run(run, config)
            history = model.fit(
                batches,
                epochs=config.frozen_epochs + config.epochs,
                shuffle=False,  # The batches are shuffled already; Keras would warn.
                callbacks=[*callbacks, *resume],
            ).history
            if training.is_chief():
                _write_results(config, run, trunk, embedder, test, history, untrained)
            else:
                evaluation.embed(embedder, test, config.resize)
            training.wait_for_chief()
            print(skipped, end="")
        except (KeyboardInterrupt, SystemExit):
            print(
                f"\nThe same command with --output_dir={run} goes on from the newest "
                "checkpoint.",
                file=sys.stderr,
            )
            raise
        except (FloatingPointError, OSError, tf.errors.OpError):
            print()  # The progress bar has not ended its line.
            raise


@contextlib.contextmanager
def _open_folder(run, config):
    """Opens the folder of the run, or on workers that write nothing there another."""
    if training.is_chief():
        with open_run_folder(run, config):
            yield run
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield pathlib.Path(folder)


def _resume(run, batches, callbacks):
    """The callback that lets a run go on; Keras 2 can't have it."""
    if IS_KERAS_2:
        return []
    return [
        training.Resume(
            run / CHECKPOINTS,
            batches,
            callbacks,
            minutes=_CHECKPOINT_MINUTES.value,
            keep=_KEEP.value,
        )
    ]


def _write_results(config, run, trunk, embedder, test, history, untrained):
    """Measures the model and writes what the run is for, the metrics last.

    What a run that was stopped here has written is whole, and of the same weights.
    """
    with atomic_file(run / "embedding.keras") as file:
        embedder.save(file)
    with atomic_file(run / "trunk.weights.h5") as file:
        trunk.save_weights(str(file))
    embeddings, index, metrics = measure(config, embedder, test)
    metrics["untrained"] = untrained["test"]
    gain = describe_gain(untrained["test"], metrics)
    table = f"{evaluation.format_table(metrics)}\n{gain}"
    if not (run / "serving" / "1").exists():
        _export(embedder, run, config.resize)
    if not (run / "index").exists():
        search.save_gallery(
            run / "index",
            embeddings if test.is_query is None else embeddings[~test.is_query],
            test,
            config.image_size,
            config.resize,
            index,
        )
    training.write_report(
        run / "report",
        run.name,
        embeddings,
        test,
        history,
        table,
        config.seed,
        _in_logs(untrained),
    )
    training.write_projector(
        run / "tensorboard" / "train", embeddings, test, config.seed
    )
    write_json(run / "metrics.json", metrics)
    print(f"\nRetrieval on the test classes, %\n{table}\n\n{run}/report/index.html")


def _in_logs(untrained):
    """The untrained model's Recall@K, by the names that epochs have in the logs."""
    return {
        f"{prefix}_{name}": figure
        for prefix, metrics in untrained.items()
        for name, figure in metrics["float"].items()
        if name.startswith("recall@")
    }


def _callbacks(config, run, folder, trunk, embedder, test, validation, untrained):
    """The callbacks that measure after each epoch, and log to a folder.

    With validation classes, these are measured, and the weights with the best R@1 on
    them are kept, those before training among them; the test classes are measured once,
    at the end. Without, the test classes are measured for the curve alone, and the last
    weights are kept.
    """
    measured, prefix = (test, "test") if validation is None else (validation, "val")
    recalls = [f"{prefix}_recall@{k}" for k in config.ks]
    untrained = {
        name: figure
        for name, figure in _in_logs(untrained).items()
        if name.startswith(prefix)
    }
    metrics = find_loss(config.loss).metrics
    callbacks = [
        training.StopOnNonFiniteLoss(run / CHECKPOINTS),
        training.FreezeTrunk(trunk, config.frozen_epochs),
        evaluation.RetrievalEvaluation(
            embedder, measured, config.ks, config.evaluate_every, prefix, config.resize
        ),
        training.EpochLog(folder / "log.csv", ["loss", *metrics, *recalls], untrained),
        EpochTensorBoard(folder / "tensorboard", untrained),
    ]
    if validation is not None:
        best = "val_recall@1"
        callbacks.append(BestWeights(best, untrained[best]))
    return callbacks


def _export(embedder, run, resize):
    if keras.backend.backend() == "tensorflow":
        serving.export(embedder, run / "serving" / "1", resize)
        return
    print(
        "There is no serving/, as only TensorFlow writes a SavedModel: "
        f"KERAS_BACKEND=tensorflow python -m experiments.export --run={run} does."
    )


def _default_output_dir():
    config_file = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"]))
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return pathlib.Path("saved_models") / f"{config_file.stem}-{now}"


if __name__ == "__main__":
    program.run(main)
