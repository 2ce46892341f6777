"""What `--config.optimizer` may name, and how it is made."""

import inspect

import keras
import ml_collections

from experiments import addons
from keras_dml import optimizers
from keras_dml import training

PAPERS = "sgd"
"""What `config.optimizer` calls the paper's, `keras_dml.optimizers.SGD`."""

_ADDONS = (
    *("AdaBelief", "AdamW", "LAMB", "LazyAdam", "NovoGrad", "ProximalAdagrad"),
    *("RectifiedAdam", "SGDW", "Yogi"),
)
"""Those of TensorFlow Addons that take a schedule; the others wrap an optimiser, or
have another kind of learning rate."""

_DECAY_APART = ("AdamW", "SGDW")
"""Those of TensorFlow Addons whose weight decay knows nothing of the learning rate."""


def check_optimizer(name: str) -> None:
    """Checks that there is such an optimiser.

    Raises:
        ValueError: if there is not.
        ImportError: if TensorFlow Addons is needed and not installed.
    """
    if name == PAPERS:
        return
    if not name.startswith(addons.PREFIX):
        raise ValueError(
            f"--config.optimizer must be {PAPERS}, or an optimiser of TensorFlow "
            f"Addons, such as {addons.PREFIX}LAMB; got {name!r}."
        )
    addons.import_addons(f"--config.optimizer={name}")
    if name.removeprefix(addons.PREFIX) not in _ADDONS:
        raise ValueError(
            "--config.optimizer must be an optimiser of TensorFlow Addons that takes a "
            f"schedule, {addons.PREFIX} and one of {', '.join(_ADDONS)}; got {name!r}."
        )


def make_optimizer(
    config: ml_collections.ConfigDict, rate: float, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Makes the config's optimiser, with the config's schedule.

    One of TensorFlow Addons is given momentum and weight decay where it takes them, and
    has its own defaults for the rest. Its weight decay is `config.l2`; AdamW and SGDW,
    which don't multiply theirs by the learning rate, get the product.

    Args:
        config: the settings.
        rate: times `config.learning_rate`.
        steps_per_epoch: batches an epoch.
    """

    def schedule(first):
        return training.step_decay(
            first,
            config.epochs,
            config.decay_at,
            steps_per_epoch,
            config.warm_up_epochs,
        )

    first = config.learning_rate * rate
    if config.optimizer == PAPERS:
        return optimizers.SGD(schedule(first), config.momentum, config.l2)
    optimizers_of_addons = addons.import_addons(
        f"--config.optimizer={config.optimizer}"
    ).optimizers
    name = config.optimizer.removeprefix(addons.PREFIX)
    constructor = getattr(optimizers_of_addons, name)
    wanted = inspect.signature(constructor).parameters
    options = {"learning_rate": schedule(first)}
    if "momentum" in wanted:
        options["momentum"] = config.momentum
    if "weight_decay" in wanted:
        is_apart = name in _DECAY_APART and config.l2
        options["weight_decay"] = schedule(first * config.l2) if is_apart else config.l2
    return constructor(**options)
