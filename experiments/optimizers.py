"""What `--config.optimizer` may name, and how it is made."""

import inspect

import keras
import ml_collections

from experiments import addons
from keras_dml import optimizers
from keras_dml import training

PAPERS = "sgd"
"""What `config.optimizer` calls the paper's, `keras_dml.optimizers.SGD`."""

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
    names = _addons_optimizers(name)
    if name.removeprefix(addons.PREFIX) not in names:
        raise ValueError(
            "--config.optimizer must be an optimiser of TensorFlow Addons that has a "
            f"learning rate of its own, {addons.PREFIX} and one of {', '.join(names)}; "
            f"got {name!r}."
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
    constructor = _addons_optimizers(config.optimizer)[
        config.optimizer.removeprefix(addons.PREFIX)
    ]
    wanted = inspect.signature(constructor).parameters
    options = {"learning_rate": schedule(first)}
    if "momentum" in wanted:
        options["momentum"] = config.momentum
    if "weight_decay" in wanted:
        is_apart = constructor.__name__ in _DECAY_APART and config.l2
        options["weight_decay"] = schedule(first * config.l2) if is_apart else config.l2
    return constructor(**options)


def _addons_optimizers(name):
    """{name: constructor} of those with a learning rate, which wrap no other one."""
    optimizers_of_addons = addons.import_addons(f"--config.optimizer={name}").optimizers
    return {
        name: member
        for name, member in vars(optimizers_of_addons).items()
        if inspect.isclass(member)
        and issubclass(member, optimizers_of_addons.KerasLegacyOptimizer)
        and "learning_rate" in inspect.signature(member).parameters
    }
