"""The settings, checked before any work."""

import contextlib
import importlib.util
from collections.abc import Sequence

import ml_collections

from experiments._lib.build import PAPERS
from experiments._lib.build import check_optimizer
from experiments._lib.losses import batch_shape
from experiments._lib.losses import find_loss
from keras_dml import training

_LEAST = {
    "frozen_epochs": 0,
    "epochs": 1,
    "classes": 1,
    "images_per_class": 1,
    "image_size": 1,
    "dim": 1,
    "evaluate_every": 1,
    "nmi_starts": 0,
}
_LARGEST_SEED = 2**31 - 1  # Annoy's
_INDEXES = ("annoy", "hnsw", "exact")


def check_config(config: ml_collections.ConfigDict) -> None:
    """Checks every setting that is a number or a choice.

    Raises:
        ValueError: if one is out of range; the message names it as it is overridden.
        ImportError: if one needs a package that is not installed.
    """
    for name, least in _LEAST.items():
        _check(config, name, config[name] >= least, f"at least {least}")
    _check(
        config, "seed", 0 <= config.seed <= _LARGEST_SEED, f"from 0 to {_LARGEST_SEED}"
    )
    _check(config, "resize", config.resize >= config.image_size, "at least image_size")
    if find_loss(config.loss).is_on_pairs:
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
        "sampled_classes",
        0 < config.sampled_classes <= 1,
        "a share, above 0 and at most 1",
    )
    if config.sampled_classes < 1:
        _check(
            config,
            "loss",
            config.loss == "normalized_softmax",
            f"normalized_softmax with --config.sampled_classes={config.sampled_classes}"
            ", which draws classes for it alone",
        )
    check_optimizer(config.optimizer)
    if config.optimizer != PAPERS:
        _check(
            config,
            "frozen_epochs",
            config.frozen_epochs == 0,
            f"0 with --config.optimizer={config.optimizer}, as {PAPERS} alone can keep "
            "the trunk still",
        )
    for name in ("learning_rate", "temperature"):
        _check(config, name, config[name] > 0, "above 0")
    _check(config, "momentum", 0 <= config.momentum < 1, "from 0 to below 1")
    _check(config, "l2", config.l2 >= 0, "0 or more")
    _check(
        config,
        "decay_at",
        list(config.decay_at) == sorted(set(config.decay_at))
        and all(0 < share < 1 for share in config.decay_at),
        "shares of the epochs, above 0, below 1 and increasing, such as (0.5,)",
    )
    _check(
        config,
        "ks",
        all(isinstance(k, int) and k >= 1 for k in config.ks)
        and 0 < len(config.ks) == len(set(config.ks)),
        "distinct integers of at least 1, such as (1,2,4,8)",
    )
    _check(config, "index", config.index in _INDEXES, "annoy, hnsw or exact")
    if config.index == "hnsw" and not importlib.util.find_spec("faiss"):
        raise ImportError(
            '--config.index=hnsw needs faiss: pip install "keras_dml[faiss]"'
        )
    _check(
        config,
        "index_agreement",
        0 < config.index_agreement <= 1,
        "a share, above 0 and at most 1",
    )
    _check(
        config, "cache", config.cache in ("memory", "disk", ""), "memory, disk or ''"
    )
    _check(
        config,
        "validation_classes",
        0 <= config.validation_classes < 1,
        "a share, from 0 (none) to below 1",
    )
    if config.validation_classes:
        _check(
            config,
            "evaluate_every",
            config.evaluate_every <= config.frozen_epochs + config.epochs,
            "at most config.frozen_epochs + config.epochs = "
            f"{config.frozen_epochs + config.epochs}, or the validation classes would "
            "choose nothing",
        )


def _check(config, name, is_right, wanted):
    if not is_right:
        raise ValueError(f"--config.{name} must be {wanted}; got {config[name]!r}.")


def check_replicas(config: ml_collections.ConfigDict, replicas: int) -> None:
    """Refuses a batch that the replicas can't share.

    Raises:
        ValueError: if they can't share it evenly, or if the loss is on pairs, which
            are formed on each replica alone, and they would not get whole classes.
    """
    classes, images_per_class = batch_shape(config)
    training.check_batch_divides(classes, images_per_class, replicas)
    if find_loss(config.loss).is_on_pairs and (
        classes % replicas or classes < 2 * replicas
    ):
        raise ValueError(
            f"--config.loss={config.loss} needs whole classes on each of {replicas} "
            f"replicas, 2 at least; a batch has {classes} classes of "
            f"{images_per_class} images. Give --config.classes accordingly."
        )


def checked_seeds(given: Sequence[str]) -> list[int]:
    """Makes integers of the words of `--seeds`.

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
