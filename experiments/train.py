"""Trains an embedding model, measures it, indexes the test images and exports it.

python -m experiments.train --config=experiments/configs/glyphs.py

Any setting of the config file can be overridden, as with --config.epochs=5
--config.trunk=resnet50. Written to the folder of the run:

  embedding.keras    the model from images to embeddings, for Keras
  trunk.weights.h5   the weights of its trunk, for --config.weights of another run
  serving/1/         the embedding model as a SavedModel, for TF Serving; TensorFlow
                     alone writes it, and experiments.export of a run on JAX or PyTorch
  index/             a search index of the test images
  metrics.json       metrics on the test classes: exact, binary, through the index; NMI
  report/            retrieved images and training curves; open index.html
  config.json        the settings
  log.csv            loss and recall after each epoch
  tensorboard/       the same, for TensorBoard

KERAS_BACKEND=jax or KERAS_BACKEND=torch before the command trains on those.
"""

import datetime
import pathlib
import tempfile

import keras
import tensorflow as tf
from absl import flags
from ml_collections import config_flags

from experiments._lib import program
from experiments._lib.build import build_batches
from experiments._lib.build import build_models
from experiments._lib.build import compile_model
from experiments._lib.build import load_data
from experiments._lib.check_config import check_config
from experiments._lib.check_config import check_replicas
from experiments._lib.losses import find_loss
from experiments._lib.measure import measure
from experiments._lib.replicas import start_replicas
from keras_dml import data
from keras_dml import evaluation
from keras_dml import models
from keras_dml import search
from keras_dml import serving
from keras_dml import training
from keras_dml._files import write_json

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
    "The folder of the run, new or empty. Default: saved_models/CONFIG-DATE-TIME.",
)
_LOGICAL_CPUS = flags.DEFINE_integer(
    "logical_cpus", 0, "Train on this many replicas on the CPU, to try it without GPUs."
)
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    """Data set → batches → model → embeddings → metrics → files of the run."""
    del argv
    config = _CONFIG.value
    check_config(config)
    replicas = start_replicas(_LOGICAL_CPUS.value)
    check_replicas(config, replicas.count)
    output_dir = _OUTPUT_DIR.value or _default_output_dir()
    training.check_run_directory(output_dir)
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()

    train, test = load_data(config, _DATA_DIR.value)
    validation = None
    if config.validation_classes:
        train, validation = train.split_by_class(config.validation_classes, config.seed)
    with replicas.scope():
        trunk, embedder, model = build_models(config, len(train.class_names))
    batches = build_batches(config, train)
    with replicas.scope():
        compile_model(config, model, len(batches), trunk)
    data.check_images(*filter(None, (validation, test)))
    run = training.new_run_directory(output_dir)
    write_json(run / "config.json", config.to_dict())
    print(
        f"Training {config.trunk} on {len(train):,} images of "
        f"{len(train.class_names):,} classes with {replicas.count} replica(s)."
        f"\nWriting {run}"
    )

    with tempfile.TemporaryDirectory() as checkpoints:
        best = pathlib.Path(checkpoints) / "best.weights.h5"
        history = model.fit(
            batches,
            epochs=config.frozen_epochs + config.epochs,
            shuffle=False,  # The batches are shuffled already; Keras would warn.
            callbacks=[
                training.FreezeTrunk(trunk, config.frozen_epochs),
                *_callbacks(config, run, embedder, test, validation, best),
            ],
        ).history
        if validation is not None:
            _load_weights(model, best)
    embedder.save(run / "embedding.keras")
    trunk.save_weights(str(run / "trunk.weights.h5"))

    embeddings, index, metrics = measure(config, embedder, test)
    table = evaluation.format_table(metrics)
    _export(embedder, run, config.resize)
    search.save_gallery_index(run / "index", index, test)
    training.write_report(
        run / "report", run.name, embeddings, test, history, table, config.seed
    )
    write_json(run / "metrics.json", metrics)
    print(f"\nRetrieval on the test classes, %\n{table}\n\n{run}/report/index.html")


def _load_weights(model, file):
    if not isinstance(model, models.Classifier | models.CrossBatchMemory):
        # Without the metrics, which Keras 2 can't load for several replicas.
        model = keras.Model(model.inputs, model.outputs)
    model.load_weights(str(file))


def _callbacks(config, run, embedder, test, validation, best):
    """The callbacks that measure and log after each epoch.

    With validation classes, these are measured, and the weights with the best R@1 on
    them are kept; the test classes are measured once, at the end. Without, the test
    classes are measured for the curve alone, and the last weights are kept.
    """
    measured, prefix = (test, "test") if validation is None else (validation, "val")
    recalls = [f"{prefix}_recall@{k}" for k in config.ks]
    metrics = find_loss(config.loss).metrics
    callbacks = [
        evaluation.RetrievalEvaluation(
            embedder, measured, config.ks, config.evaluate_every, prefix, config.resize
        ),
        training.EpochLog(run / "log.csv", ["loss", *metrics, *recalls]),
        keras.callbacks.TensorBoard(str(run / "tensorboard"), write_graph=False),
    ]
    if validation is not None:
        callbacks.append(
            keras.callbacks.ModelCheckpoint(
                str(best),
                monitor="val_recall@1",
                mode="max",
                save_best_only=True,
                save_weights_only=True,
            )
        )
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
