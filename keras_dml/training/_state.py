"""Every number of a model in training and of its callbacks, read and put back.

With several replicas, each has values of its own of what is only reduced when it is
read, such as batch normalization's statistics and the sums of metrics: those are kept
for each replica.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_dml._ops import ops
from keras_dml.training._workers import count_workers
from keras_dml.training._workers import gather_from_workers
from keras_dml.training._workers import worker_index

_CALLBACKS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (
        keras.callbacks.EarlyStopping,
        ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    ),
    (keras.callbacks.ReduceLROnPlateau, ("wait", "best", "cooldown_counter")),
    (
        keras.callbacks.ModelCheckpoint,
        ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    ),
    (keras.callbacks.TensorBoard, ("_global_train_batch", "_global_test_batch")),
)
"""What Keras's callbacks remember from epoch to epoch."""


def read_variables(
    model: keras.Model, scalars_only: bool = False
) -> dict[str, np.ndarray]:
    """Reads all variables of a model, its optimizer and its metrics.

    All workers must call it, as each gets the values of all.

    Args:
        model: a compiled one.
        scalars_only: leave out those of more than one number.

    Returns:
        The values by "group/place/replica"; one value of a variable that is the same on
        all replicas.
    """
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
    local = {
        name: [ops.convert_to_numpy(one) for one in _replica_values(model, variable)]
        for name, variable in _variables(model)
        if not (scalars_only and variable.shape)
    }
    values = {}
    for name, replicas in _of_all_workers(local).items():
        if all(one.tobytes() == replicas[0].tobytes() for one in replicas[1:]):
            replicas = replicas[:1]
        for replica, value in enumerate(replicas):
            values[f"{name}/{replica}"] = value
    return values


def _of_all_workers(local):
    """Adds the replicas of other workers, where one has other values than the first."""
    if count_workers() == 1:
        return local
    contents = {
        name: b"".join(one.tobytes() for one in replicas)
        for name, replicas in local.items()
    }
    digests = [hashlib.sha256(content).digest() for content in contents.values()]
    of_workers = gather_from_workers(np.frombuffer(b"".join(digests), "S32"))
    differ = np.any([one != of_workers[0] for one in of_workers], axis=0)
    names = [name for name, differs in zip(local, differ, strict=True) if differs]
    content = b"".join(contents[name] for name in names)
    found = {name: [] if name in names else local[name] for name in local}
    for of_worker in gather_from_workers(np.frombuffer(content, np.uint8)):
        rest = of_worker.tobytes()
        for name in names:
            for one in local[name]:
                value, rest = rest[: one.nbytes], rest[one.nbytes :]
                found[name].append(np.frombuffer(value, one.dtype).reshape(one.shape))
    return found


def has_finite_weights(model: keras.Model) -> bool:
    """Whether no trained weight of a model is infinite or NaN."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
    return all(
        np.isfinite(ops.convert_to_numpy(weight)).all()
        for weight in model.trainable_variables
    )


def write_variables(
    model: keras.Model, values: Mapping[str, np.ndarray], with_metrics: bool
) -> None:
    """Puts values that `read_variables` gave back into the same model.

    Args:
        model: one that is built like that which was read.
        values: what `read_variables` gave, and perhaps others.
        with_metrics: whether to put back metrics too.

    Raises:
        ValueError: if the model has other variables.
    """
    groups = ("model", "optimizer", "metrics")[: 2 + with_metrics]
    found = [one for one in _variables(model) if one[0].startswith(groups)]
    names = {name.rpartition("/")[0] for name in values if name.startswith(groups)}
    if names != {name for name, _ in found}:
        raise ValueError(
            f"the checkpoint has {len(names)} variables of model and optimizer, and "
            f"this model has {len(found)}: it is of another model."
        )
    for name, variable in found:
        first = values[f"{name}/0"]
        if first.shape != tuple(variable.shape):
            raise ValueError(
                f"the checkpoint has {name} in shape {first.shape}, but the model's "
                f"{variable.path} is {tuple(variable.shape)}: it is of another model."
            )
        replicas = _replica_values(model, variable)
        for place, one in enumerate(replicas, worker_index() * len(replicas)):
            one.assign(values.get(f"{name}/{place}", first))


def _variables(model):
    """Names all variables by their group and place in it, each once."""
    seen = set()
    groups = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    for group, variables in groups.items():
        for place, variable in enumerate(variables):
            if id(variable) not in seen:
                seen.add(id(variable))
                yield f"{group}/{place}", variable


def _replica_values(model, variable):
    """What holds a variable's values, one a replica, each with an `assign`."""
    if keras.backend.backend() != "tensorflow":
        return [variable]
    return model.distribute_strategy.experimental_local_results(variable.value)


def count_replicas(model: keras.Model) -> int:
    """The devices that a model trains on."""
    if keras.backend.backend() == "tensorflow":
        return model.distribute_strategy.num_replicas_in_sync
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else int(distribution.device_mesh.devices.size)


def strategy_scope(model: keras.Model) -> contextlib.AbstractContextManager:
    """The scope of the distribution strategy, which only TensorFlow has."""
    if keras.backend.backend() == "tensorflow":
        return model.distribute_strategy.scope()
    return contextlib.nullcontext()


def jax_state(model: keras.Model) -> Any:
    """The variables' values as `fit` hands them from step to step on JAX."""
    state = model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
        purge_model_variables=True,
    )
    model._jax_state_synced = False
    return state


def read_callbacks(
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Reads what callbacks remember.

    A callback that is not Keras's and remembers something has `get_state()`, which
    gives a dictionary of numbers and of lists of arrays, and `set_state(state)`.

    Returns:
        (states, arrays): one dictionary a callback, for JSON; and arrays by
        "callbacks/place/attribute/number", where an attribute is a list of arrays.
    """
    states, arrays = [], {}
    for place, callback in enumerate(callbacks):
        state = {}
        for name, value in _remembered(callback).items():
            if isinstance(value, list):
                state[name] = {"arrays": len(value)}
                for number, array in enumerate(value):
                    arrays[f"callbacks/{place}/{name}/{number}"] = np.asarray(array)
            else:
                state[name] = value.item() if hasattr(value, "item") else value
        states.append({"kind": type(callback).__name__, "state": state})
    return states, arrays


def write_callbacks(
    callbacks: Sequence[keras.callbacks.Callback],
    states: Sequence[Mapping[str, Any]],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Puts back what `read_callbacks` gave."""
    for place, (callback, one) in enumerate(zip(callbacks, states, strict=True)):
        state = {}
        for name, value in one["state"].items():
            if isinstance(value, dict):
                state[name] = [
                    arrays[f"callbacks/{place}/{name}/{number}"]
                    for number in range(value["arrays"])
                ]
            else:
                state[name] = value
        if hasattr(callback, "set_state"):
            callback.set_state(state)
        else:
            for name, value in state.items():
                setattr(callback, name, value)


def check_callbacks(
    callbacks: Sequence[keras.callbacks.Callback], states: Sequence[Mapping[str, Any]]
) -> None:
    """Raises where a checkpoint is of a run with other callbacks.

    Raises:
        ValueError: if they are.
    """
    now = [type(callback).__name__ for callback in callbacks]
    before = [one["kind"] for one in states]
    if now != before:
        raise ValueError(
            f"callbacks must be those that the run began with, {', '.join(before)}; "
            f"got {', '.join(now) or 'none'}."
        )


def _remembered(callback):
    if hasattr(callback, "get_state"):
        return callback.get_state()
    remembered = {}
    for kind, names in _CALLBACKS:
        if isinstance(callback, kind):
            remembered.update({name: getattr(callback, name) for name in names})
    return remembered
