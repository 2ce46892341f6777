"""The settings, checked before any work."""

import contextlib
import importlib.util
import json
from collections.abc import Sequence

import ml_collections

from experiments._lib import addons
from experiments._lib.augmentation_layers import augmentation_layers
from experiments._lib.build import KERAS_OPTIMIZERS
from experiments._lib.build import check_optimizer
from experiments._lib.losses import LOSSES
from experiments._lib.losses import batch_shape
from experiments._lib.losses import find_loss
from keras_dml import search
from keras_dml import training
from keras_dml._checks import checked_bool
from keras_dml._checks import checked_choice
from keras_dml._checks import checked_integer
from keras_dml._checks import checked_ks
from keras_dml._checks import checked_number
from keras_dml._checks import checked_rates
from keras_dml._ops import IS_KERAS_2

_INTEGERS = {
    "seed": (0, 2**31 - 1),  # the largest that Annoy takes
    "image_size": (1, None),
    "dim": (1, None),
    "classes": (1, None),
    "images_per_class": (1, None),
    "memory_size": (0, None),
    "frozen_epochs": (0, None),
    "epochs": (1, None),
    "evaluate_every": (1, None),
    "nmi_starts": (0, None),
}
"""(the least, the most) that a setting may be."""

_NUMBERS = {
    "temperature": {"above": 0},
    "sampled_classes": {"above": 0, "most": 1},
    "learning_rate": {"above": 0},
    "momentum": {"least": 0, "below": 1},
    "l2": {"least": 0},
    "warmup_epochs": {"least": 0},
    "layer_decay": {"above": 0, "most": 1},
    "validation_classes": {"least": 0, "below": 1},
    "index_agreement": {"above": 0, "most": 1},
}
"""The limits of a setting, as `checked_number` takes them."""


def check_config(config: ml_collections.ConfigDict) -> None:
    """Checks every setting that is a number or a choice.

    Raises:
        ValueError: if one is out of range; the message names it as it is overridden.
        ImportError: if one needs a package that is not installed.
    """
    for name, (least, most) in _INTEGERS.items():
        checked_integer(config[name], f"--config.{name}", least, most)
    for name, limits in _NUMBERS.items():
        checked_number(config[name], f"--config.{name}", **limits)
    augmentation_layers(config.augment)
    checked_choice(config.cache, "--config.cache", ("memory", "disk", ""))
    _check(
        config,
        "weights",
        (config.trunk, config.weights) != ("conv4", "imagenet"),
        "empty (--config.weights=) or a file with --config.trunk=conv4, which has no "
        "ImageNet weights",
    )
    checked_choice(config.pooling, "--config.pooling", ("avg", "max", "gem"))
    checked_choice(config.batch_norm, "--config.batch_norm", ("train", "frozen"))
    _check(
        config,
        "batch_norm",
        config.batch_norm == "train" or config.weights not in ("", "None"),
        "train with random weights (--config.weights=), which have no statistics to "
        "keep; experiments/configs/image_folder_paper.py has settings for them",
    )
    checked_choice(config.class_weights, "--config.class_weights", ("random", "means"))
    checked_choice(config.schedule, "--config.schedule", ("step", "cosine", "constant"))
    checked_choice(
        config.precision,
        "--config.precision",
        ("float32", "mixed_bfloat16", "mixed_float16"),
    )
    for name in ("jit_compile", "deterministic"):
        checked_bool(config[name], f"--config.{name}")
    checked_choice(config.index, "--config.index", search.KINDS)
    if config.index == "hnsw" and not importlib.util.find_spec("faiss"):
        raise ImportError(
            '--config.index=hnsw needs faiss: pip install "keras_dml[faiss]"'
        )
    _check(config, "resize", config.resize >= config.image_size, "at least image_size")
    _check(
        config,
        "ks",
        _are_ranks(config.ks),
        "distinct integers of at least 1, such as (1,2,4,8)",
    )
    _check(
        config,
        "verification",
        _are_rates(config.verification),
        "distinct numbers of at least 0 and below 1, such as (0.001, 0.01), or ()",
    )
    _check(
        config,
        "decay_at",
        list(config.decay_at) == sorted(set(config.decay_at))
        and all(0 < share < 1 for share in config.decay_at),
        "shares of the epochs, above 0, below 1 and increasing, such as (0.5,)",
    )
    _check_loss(config)
    check_optimizer(config.optimizer)
    _check_optimization(config)
    if config.validation_classes:
        epochs = config.frozen_epochs + config.epochs
        _check(
            config,
            "evaluate_every",
            config.evaluate_every <= epochs,
            f"at most config.frozen_epochs + config.epochs = {epochs}, or the "
            "validation classes would never be measured",
        )


def _check_optimization(config):
    """Checks what settings of the optimizer ask of one another."""
    if config.schedule != "cosine":
        _check(
            config,
            "warmup_epochs",
            config.warmup_epochs == 0,
            f"0 with --config.schedule={config.schedule}, as only cosine warms up",
        )
    epochs = config.frozen_epochs + config.epochs
    _check(
        config,
        "warmup_epochs",
        config.warmup_epochs < epochs,
        f"below config.frozen_epochs + config.epochs = {epochs}",
    )
    _check(
        config,
        "jit_compile",
        not (config.jit_compile and config.deterministic),
        "False with --config.deterministic=True, as XLA is not deterministic",
    )
    _check(
        config,
        "jit_compile",
        not (config.jit_compile and config.sampled_classes < 1),
        f"False with --config.sampled_classes={config.sampled_classes}, as XLA can't "
        "draw classes",
    )
    # Others than SGD have multipliers on Keras 3 alone, and those of Addons never.
    if config.optimizer == "sgd" or (
        config.optimizer in KERAS_OPTIMIZERS and not IS_KERAS_2
    ):
        return
    for name, value in (("frozen_epochs", 0), ("layer_decay", 1)):
        _check(
            config,
            name,
            config[name] == value,
            f"{value} with --config.optimizer={config.optimizer}, as only sgd and "
            "Keras 3's can freeze the trunk or slow it down",
        )


def check_replicas(config: ml_collections.ConfigDict, replicas: int) -> None:
    """Checks that the replicas can share a batch.

    Raises:
        ValueError: if it does not divide by their number, or if the loss is TensorFlow
            Addons', whose pairs are formed on each replica alone, and they would not
            get whole classes.
    """
    classes, images_per_class = batch_shape(config)
    training.check_batch_divides(classes, images_per_class, replicas)
    if config.loss.startswith(addons.PREFIX) and (
        classes % replicas or classes < 2 * replicas
    ):
        raise ValueError(
            f"--config.loss={config.loss} needs whole classes on each of {replicas} "
            f"replicas, 2 at least; a batch has {classes} classes of "
            f"{images_per_class} images. Give --config.classes accordingly."
        )


def check_workers_agree(config: ml_collections.ConfigDict) -> None:
    """Checks that this worker has the settings of the first.

    Raises:
        ValueError: if it has others.
    """
    given = json.loads(json.dumps(config.to_dict()))
    of_chief = training.from_chief(given)
    for name in sorted(given.keys() | of_chief.keys()):
        if given.get(name) != of_chief.get(name):
            raise ValueError(
                f"--config.{name} is {given.get(name)!r} here and "
                f"{of_chief.get(name)!r} on the first worker; give all the same."
            )


def checked_seeds(given: Sequence[str]) -> list[int]:
    """Returns the values of `--seeds` as integers.

    Raises:
        ValueError: if they are not distinct integers of at least 0, or there are none.
    """
    with contextlib.suppress(ValueError):
        seeds = [int(seed) for seed in given]
        if seeds and len(seeds) == len(set(seeds)) and min(seeds) >= 0:
            return seeds
    raise ValueError(
        "--seeds must be distinct integers of at least 0, such as 0,1,2; got "
        f"{','.join(given)!r}."
    )


def _check_loss(config):
    loss = find_loss(config.loss)
    if loss.is_pair_loss:
        _check(
            config,
            "balanced",
            config.balanced,
            f"True with --config.loss={config.loss}, which needs pairs of a class",
        )
        for name in ("classes", "images_per_class"):
            _check(
                config,
                name,
                config[name] >= 2,
                f"at least 2 with --config.loss={config.loss}",
            )
        _check(
            config,
            "class_weights",
            config.class_weights == "random",
            f"random with --config.loss={config.loss}, which has none",
        )
    if config.memory_size:
        _check(
            config,
            "memory_size",
            loss.can_remember,
            f"0 with --config.loss={config.loss}, which compares no image with those "
            "of past batches",
        )
        batch = config.classes * config.images_per_class
        _check(
            config,
            "memory_size",
            config.memory_size >= batch,
            f"0, or at least the {batch} images of a batch",
        )
    if config.sampled_classes < 1:
        _check(
            config,
            "loss",
            loss.can_draw_classes,
            f"{_listed_drawers()} with --config.sampled_classes="
            f"{config.sampled_classes}, as no other loss can sample classes",
        )


def _listed_drawers():
    return " or ".join(name for name, one in LOSSES.items() if one.can_draw_classes)


def _are_ranks(ks):
    with contextlib.suppress(ValueError):
        return bool(checked_ks(ks))
    return False


def _are_rates(rates):
    with contextlib.suppress(ValueError):
        checked_rates(rates, "verification")
        return True
    return False


def _check(config, name, is_right, wanted):
    if not is_right:
        raise ValueError(f"--config.{name} must be {wanted}; got {config[name]!r}.")
