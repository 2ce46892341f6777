"""From a config to what is trained: data set, batches, models, loss and optimizer."""

import contextlib
import inspect
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from experiments._lib import addons
from experiments._lib.augmentation_layers import augmentation_layers
from experiments._lib.losses import batch_shape
from experiments._lib.losses import class_layer
from experiments._lib.losses import find_loss
from experiments._lib.losses import loss_input
from keras_dml import data
from keras_dml import models
from keras_dml import optimizers
from keras_dml import training
from keras_dml.layers import Proxies

PAPER_LOADERS = {
    "cub200": data.cub200,
    "cars196": data.cars196,
    "stanford_online_products": data.stanford_online_products,
    "in_shop": data.in_shop,
}
"""The paper's data sets, by what `config.data.loader` calls them."""

_ADDONS_OPTIMIZERS = (
    *("AdaBelief", "AdamW", "LAMB", "LazyAdam", "NovoGrad", "ProximalAdagrad"),
    *("RectifiedAdam", "SGDW", "Yogi"),
)
"""Those of TensorFlow Addons that take a learning rate schedule; the others wrap an
optimizer, or have another kind of learning rate."""

_DECOUPLED_DECAY = ("AdamW", "SGDW")
"""Those that do not multiply their weight decay by the learning rate."""

# Those that wrap others, the base class, and the one whose name is taken by ours.
_NOT_BY_NAME = ("LossScaleOptimizer", "MultiOptimizer", "Optimizer", "SGD")

KERAS_OPTIMIZERS: dict[str, Any] = {
    name.lower(): kind
    for name, kind in vars(keras.optimizers).items()
    if inspect.isclass(kind)
    and issubclass(kind, keras.optimizers.Optimizer)
    and name not in _NOT_BY_NAME
}
"""Keras's optimizers by what `config.optimizer` calls them, such as "adamw"."""


def load_data(
    config: ml_collections.ConfigDict, data_dir: str | None, check_files: bool = True
) -> tuple[data.ImageDataset, data.ImageDataset]:
    """Loads the (train, test) sets that `config.data` names.

    Args:
        config: `config.data.loader` is "glyphs", "glyph_strings", "omniglot",
            "image_folder" or one of `PAPER_LOADERS`; the rest of `config.data` is that
            loader's own.
        data_dir: the folder with the files; "glyphs" and "glyph_strings" need none.
        check_files: of `keras_dml.data.image_folder`.

    Raises:
        ValueError: if there is no such loader, it needs data_dir, or Recall@K can't be
            measured on the test set.
    """
    train, test = _load(config, data_dir, check_files)
    if len(test.class_names) < 2 or np.bincount(test.labels).max() < 2:
        raise ValueError(
            f"the test set has {len(test):,} images of {len(test.class_names):,} "
            "classes; Recall@K needs at least 2 classes, and one with 2 images."
        )
    return train, test


def _load(config, data_dir, check_files):
    options = config.data
    if options.loader == "glyphs":
        return data.glyphs(seed=config.seed)
    if options.loader == "glyph_strings":
        return data.glyph_strings(
            options.classes, options.images_per_class, seed=config.seed
        )
    names = ("glyphs", "glyph_strings", "omniglot", "image_folder", *PAPER_LOADERS)
    if options.loader not in names:
        raise ValueError(
            f"config.data.loader must be one of {', '.join(names)}; got "
            f"{options.loader!r}."
        )
    if not data_dir:
        raise ValueError(f"--data_dir is needed: the folder with {options.loader}.")
    if options.loader in PAPER_LOADERS:
        return PAPER_LOADERS[options.loader](data_dir)
    if options.loader == "omniglot":
        return data.omniglot(
            f"{data_dir}/{options.train_zip}", f"{data_dir}/{options.test_zip}"
        )
    return data.image_folder(data_dir, options.test_fraction, config.seed, check_files)


def build_models(
    config: ml_collections.ConfigDict, num_classes: int
) -> tuple[keras.Model, keras.Model, keras.Model]:
    """Builds (the trunk, the embedding model on it, the model to train on that).

    They compute in `config.precision`.

    Raises:
        ValueError: if a batch needs more classes than there are, or where `trunk` and
            `embedding_model` raise.
        FileNotFoundError: if `config.weights` names a file that does not exist.
        OSError: if the ImageNet weights can't be downloaded.
    """
    _check_classes(config, num_classes)  # before anything is downloaded
    with _precision(config.precision):
        return _build_models(config, num_classes)


def _check_classes(config, num_classes):
    classes, _ = batch_shape(config)
    if config.balanced and classes > num_classes:
        most = num_classes * config.classes // classes
        raise ValueError(
            f"a batch of --config.classes={config.classes} has {classes} classes, and "
            f"there are {num_classes} to train on. Give --config.classes={most} or "
            "less, or add classes."
        )


@contextlib.contextmanager
def _precision(policy):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def _build_models(config, num_classes):
    shape = (config.image_size, config.image_size, 3)
    # Messages of the package say None, which a flag gives as text.
    weights = None if config.weights in ("", "None") else config.weights
    trunk = models.trunk(config.trunk, shape, weights)
    if config.batch_norm == "frozen":
        training.freeze_batch_norm(trunk)
    embedder = models.embedding_model(
        trunk, config.dim, config.layer_norm, config.pooling
    )
    if config.sampled_classes < 1:
        layer = class_layer(config, num_classes)
        return trunk, embedder, models.Classifier(embedder, layer)
    if config.memory_size:
        memory = models.CrossBatchMemory(embedder, config.memory_size)
        return trunk, embedder, memory
    output = loss_input(config, embedder, num_classes)
    return trunk, embedder, keras.Model(embedder.input, output)


def start_class_weights(
    config: ml_collections.ConfigDict,
    model: keras.Model,
    embedder: keras.Model,
    train: data.ImageDataset,
) -> None:
    """Sets the class weights to the classes' mean embeddings, where the config does."""
    if config.class_weights == "random":
        return
    (layer,) = (one for one in model._flatten_layers() if isinstance(one, Proxies))
    print("Setting the class weights to the mean embedding of each class:")
    training.imprint_class_weights(layer, embedder, train, config.resize)


def build_batches(
    config: ml_collections.ConfigDict, train: data.ImageDataset
) -> tf.data.Dataset:
    """Builds batches of the size of `batch_shape`, class-balanced or plain.

    Raises:
        ValueError: if `config.augment` changes the size of the images.
    """
    classes, images_per_class = batch_shape(config)
    options = {
        "image_size": config.image_size,
        "resize": config.resize,
        "flip": config.flip,
        "augment": augmentation_layers(config.augment),
        "cache": config.cache or None,
        "seed": config.seed,
    }
    if config.balanced:
        batches = data.class_balanced_batches(
            train,
            classes,
            images_per_class,
            replacement=config.replacement,
            **options,
        )
    else:
        batches = data.shuffled_batches(train, classes * images_per_class, **options)
    shape = batches.element_spec[0].shape[1:]
    if shape != (config.image_size, config.image_size, 3):
        raise ValueError(
            f"--config.augment must keep images of {config.image_size} pixels as large "
            f"as they are; {config.augment!r} makes them {tuple(shape)}."
        )
    return batches


def compile_model(
    config: ml_collections.ConfigDict,
    model: keras.Model,
    steps_per_epoch: int,
    trunk: keras.Model | None = None,
) -> None:
    """Compiles the model with the config's loss, optimizer and schedule.

    Where `config.layer_decay` is below 1, the trunk is needed, and has lower rates.
    """
    loss = find_loss(config.loss)
    optimizer = make_optimizer(config, steps_per_epoch)
    model.compile(
        optimizer,
        loss.make(),
        metrics=loss.metrics,
        # Without it Keras runs JAX one operation at a time.
        jit_compile=config.jit_compile or keras.backend.backend() == "jax",
    )
    if config.layer_decay < 1:
        optimizer.build(model.trainable_variables)
        multipliers = optimizers.layer_wise_decay(trunk, config.layer_decay)
        for variables, multiplier in multipliers:
            optimizer.set_multiplier(variables, multiplier)


def check_optimizer(name: str) -> None:
    """Checks `config.optimizer`.

    Raises:
        ValueError: if there is no such optimizer.
        ImportError: if TensorFlow Addons is needed and not installed.
    """
    if name == "sgd" or name in KERAS_OPTIMIZERS:
        return
    if not name.startswith(addons.PREFIX):
        raise ValueError(
            "--config.optimizer must be sgd, one of Keras's, "
            f"{', '.join(KERAS_OPTIMIZERS)}"
            f", or of TensorFlow Addons, such as {addons.PREFIX}LAMB; got {name!r}."
        )
    addons.import_addons(f"--config.optimizer={name}")
    if name.removeprefix(addons.PREFIX) not in _ADDONS_OPTIMIZERS:
        raise ValueError(
            "--config.optimizer must be an optimizer of TensorFlow Addons that takes a "
            f"schedule, {addons.PREFIX} and one of {', '.join(_ADDONS_OPTIMIZERS)}; "
            f"got {name!r}."
        )


def learning_rate_of(config: ml_collections.ConfigDict) -> float:
    """Gives the highest learning rate of a run: the config's, times the loss's factor.

    `TrainedLoss.rate_factor` makes up for losses of other steepness. It is not for
    Keras's optimizers, whose steps don't grow with the gradient.
    """
    if config.optimizer in KERAS_OPTIMIZERS:
        return config.learning_rate
    return config.learning_rate * find_loss(config.loss).rate_factor


def make_optimizer(
    config: ml_collections.ConfigDict, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Makes the config's optimizer, with the config's learning rate schedule.

    "sgd" is the paper's, `keras_dml.optimizers.SGD`. Keras's are given `config.l2` as
    weight decay, which they multiply by the learning rate, and have Keras's defaults
    for the rest. One of TensorFlow Addons is given momentum and weight decay if it
    takes them, and has its own defaults for the rest. Its weight decay is `config.l2`;
    AdamW and SGDW, which don't multiply theirs by the learning rate, get the product.

    Args:
        config: the settings.
        steps_per_epoch: batches an epoch.
    """

    def schedule(rate):
        return _schedule(config, rate, steps_per_epoch)

    learning_rate = learning_rate_of(config)
    if config.optimizer in KERAS_OPTIMIZERS:
        optimizer = KERAS_OPTIMIZERS[config.optimizer](
            schedule(learning_rate), weight_decay=config.l2
        )
        if config.layer_decay < 1:
            return optimizers.LearningRateMultipliers(optimizer)
        return optimizer
    if config.optimizer == "sgd":
        return optimizers.SGD(schedule(learning_rate), config.momentum, config.l2)
    addons_optimizers = addons.import_addons(
        f"--config.optimizer={config.optimizer}"
    ).optimizers
    name = config.optimizer.removeprefix(addons.PREFIX)
    constructor = getattr(addons_optimizers, name)
    parameters = inspect.signature(constructor).parameters
    options = {"learning_rate": schedule(learning_rate)}
    if "momentum" in parameters:
        options["momentum"] = config.momentum
    if "weight_decay" in parameters:
        options["weight_decay"] = (
            schedule(learning_rate * config.l2)
            if name in _DECOUPLED_DECAY and config.l2
            else config.l2
        )
    return constructor(**options)


def _schedule(config, rate, steps_per_epoch):
    """Makes the config's schedule from the highest learning rate."""
    if config.schedule == "constant":
        return rate
    if config.schedule == "step":
        return training.step_decay(
            rate,
            config.epochs,
            config.decay_at,
            steps_per_epoch,
            config.frozen_epochs,
        )
    steps = (config.frozen_epochs + config.epochs) * steps_per_epoch
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup_steps, warmup_target=rate, warmup_steps=warmup_steps
    )
