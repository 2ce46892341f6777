"""What differs between the versions and backends of Keras that keras_dml runs on.

On Keras 3 `ops`, `Loss` and `Optimizer` are Keras's own. On Keras 2.15, the only one
that TensorFlow Addons imports beside, each is a stand-in with as much of Keras 3's
interface as keras_dml uses, made of TensorFlow's functions. What needs Keras 3, such as
the sampled softmax and the trunks of KerasHub, asks for `IS_KERAS_2` where it is
defined.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import types
from typing import Any
from typing import TypeAlias

import keras

Tensor: TypeAlias = Any
"""A tensor of whichever backend Keras runs on."""

IS_KERAS_2 = keras.__version__.startswith("2.")
"""Whether this is Keras 2.15, not Keras 3."""


def check_versions(keras_version: str, tensorflow_version: str | None) -> None:
    """Raises where keras_dml does not support these versions together.

    Args:
        keras_version: such as "3.15.1".
        tensorflow_version: such as "2.21.0"; None where Keras runs on another backend.

    Raises:
        ImportError: if setup.py does not allow the pair.
    """
    found = _minor(keras_version)
    beside = None if tensorflow_version is None else _minor(tensorflow_version)
    if found == beside == (2, 15):
        return
    if found >= (3, 8) and (beside is None or beside >= (2, 18)):
        return
    raise ImportError(
        "keras_dml runs on Keras 3.8 or newer with TensorFlow 2.18 or newer, or on "
        f"Keras 2.15 with TensorFlow 2.15; found Keras {keras_version} with TensorFlow "
        f'{tensorflow_version}. Use pip install "keras>=3.8" "tensorflow>=2.18", or, '
        'to have TensorFlow Addons beside it, pip install "keras_dml[addons]".'
    )


def _minor(version: str) -> tuple[int, ...]:
    """Gives (3, 15) for "3.15.1"."""
    return tuple(map(int, version.split(".")[:2]))


def import_extra(module: str, user: str, extra: str) -> types.ModuleType:
    """Imports a package that only an extra of keras_dml installs.

    Args:
        module: what to import, such as "scipy.io".
        user: what needs it, for the error message, such as "cars196".
        extra: the extra that installs it, such as "datasets".

    Returns:
        The module.

    Raises:
        ImportError: if it is not installed; the message has the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{user} needs {package}, which is not installed ({error}): "
            f'pip install "keras_dml[{extra}]"'
        ) from error


if keras.backend.backend() == "tensorflow":
    import tensorflow as tf  # Keras has imported it already.

    check_versions(keras.__version__, tf.__version__)
else:
    check_versions(keras.__version__, None)


if not IS_KERAS_2:
    ops = keras.ops
    Loss = keras.losses.Loss
    Optimizer = keras.optimizers.Optimizer
    NOT_AUTOCAST = types.MappingProxyType({"autocast": False})
    """The argument of `add_weight` that keeps a weight's dtype in mixed precision."""

    def dtype_name(dtype: Any) -> str:
        """Gives a dtype's name, such as "float32"."""
        return keras.backend.standardize_dtype(dtype)

    def weight_name(weight: Any) -> str:
        """Gives the name of a weight in its layer, such as "kernel"."""
        return weight.name

    def weight_path(weight: Any) -> str:
        """Gives the name of a weight in its model, such as "conv/kernel"."""
        return weight.path

    def write_archive(archive: Any, folder: str) -> None:
        """Writes a `keras.export.ExportArchive` and prints nothing."""
        archive.write_out(folder, verbose=False)

else:
    ops = types.SimpleNamespace(
        any=tf.reduce_any,
        arange=tf.range,
        cast=tf.cast,
        convert_to_numpy=lambda x: tf.convert_to_tensor(x).numpy(),
        convert_to_tensor=tf.convert_to_tensor,
        copy=tf.identity,
        diagonal=tf.linalg.diag_part,
        floor=tf.floor,
        flip=lambda x, axis: tf.reverse(x, [axis]),
        logaddexp=lambda x, y: tf.maximum(x, y) + tf.nn.softplus(-abs(x - y)),
        logical_and=tf.logical_and,
        logical_not=tf.logical_not,
        logical_or=tf.logical_or,
        logsumexp=tf.reduce_logsumexp,
        max=tf.reduce_max,
        maximum=tf.maximum,
        mean=tf.reduce_mean,
        relu=tf.nn.relu,
        reshape=tf.reshape,
        rsqrt=tf.math.rsqrt,
        shape=tf.shape,
        softmax=tf.nn.softmax,
        softplus=tf.nn.softplus,
        sqrt=tf.sqrt,
        square=tf.square,
        stop_gradient=tf.stop_gradient,
        sum=tf.reduce_sum,
        transpose=tf.transpose,
        where=tf.where,
        zeros=tf.zeros,
        zeros_like=tf.zeros_like,
    )
    NOT_AUTOCAST = types.MappingProxyType({"experimental_autocast": False})

    def dtype_name(dtype: Any) -> str:
        """Gives a dtype's name, such as "float32"."""
        return tf.as_dtype(dtype).name

    def weight_name(weight: Any) -> str:
        """Gives the name that Keras 3 would give, "kernel" for "conv/kernel:0"."""
        return weight_path(weight).rpartition("/")[-1]

    def weight_path(weight: Any) -> str:
        """Gives the path that Keras 3 would give, "conv/kernel" for "conv/kernel:0"."""
        return weight.name.partition(":")[0].replace("/depthwise_kernel", "/kernel")

    def write_archive(archive: Any, folder: str) -> None:
        """Writes a `keras.export.ExportArchive` and prints nothing."""
        with contextlib.redirect_stdout(io.StringIO()):
            archive.write_out(folder)

    class Loss(keras.losses.Loss):  # type: ignore[no-redef]
        """A loss that casts predictions to its dtype, as those of Keras 3 do."""

        def __init__(
            self,
            name: str | None = None,
            reduction: str | None = "sum_over_batch_size",
            dtype: str | None = None,
        ) -> None:
            super().__init__("none" if reduction is None else reduction, name)
            self.dtype = dtype or keras.backend.floatx()

        def __call__(
            self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
        ) -> Tensor:
            """Computes the loss of a batch."""
            return super().__call__(y_true, tf.cast(y_pred, self.dtype), sample_weight)

        def get_config(self) -> dict[str, Any]:
            """Gives the configuration, the dtype included."""
            return {**super().get_config(), "dtype": self.dtype}

    class Optimizer(keras.optimizers.Optimizer):  # type: ignore[no-redef]
        """An optimizer whose subclasses are written as for Keras 3."""

        def __init__(
            self, learning_rate: Any, name: str | None = None, **kwargs: Any
        ) -> None:
            super().__init__(name=name or type(self).__name__, **kwargs)
            schedule = keras.optimizers.schedules.LearningRateSchedule
            if callable(learning_rate) and not isinstance(learning_rate, schedule):
                raise ValueError(
                    "learning_rate must be a number or a LearningRateSchedule on Keras "
                    f"2.15; got {learning_rate!r}."
                )
            # Keras 2 leaves this to the subclass.
            self._learning_rate = self._build_learning_rate(learning_rate)

        @property
        def built(self) -> bool:
            """Whether the optimizer has its variables."""
            return getattr(self, "_built", False)

        def build(self, variables: list[Any]) -> None:
            """Makes the index of the variables by which they are found."""
            super().build(variables)
            self._built = True

        def add_variable_from_reference(self, variable: Any, name: str) -> Any:
            """Makes a variable of zeros with the shape of another."""
            return super().add_variable_from_reference(variable, name)

        def apply(self, gradients: list[Tensor], variables: list[Any]) -> None:
            """Updates the variables by their gradients."""
            self.apply_gradients(zip(gradients, variables, strict=True))

        def _get_variable_index(self, variable):
            return self._index_dict[self._var_key(variable)]

        def _update_step(self, gradient, variable):
            self.update_step(gradient, variable, self.learning_rate)

        def assign(self, variable: Any, value: Tensor) -> None:
            """Sets a variable."""
            variable.assign(value)

        def assign_sub(self, variable: Any, value: Tensor) -> None:
            """Subtracts from a variable."""
            variable.assign_sub(value)

        def get_config(self) -> dict[str, Any]:
            """Gives the configuration, the learning rate included."""
            rate = self._serialize_hyperparameter(self._learning_rate)
            rate = rate if isinstance(rate, dict) else float(rate)
            return {**super().get_config(), "learning_rate": rate}


def gather_rows(matrix: Any, rows: Tensor) -> Tensor:
    """Gathers rows of a variable; on TensorFlow their gradient is sparse.

    Keras's `take` reads the whole variable first, and TensorFlow makes a copy for that
    once rows of it have been written.

    Args:
        matrix: a variable of shape (rows, dim) or (rows,), Keras's or TensorFlow's.
        rows: (n,) integers.

    Returns:
        (n, dim) or (n,), of the matrix's dtype.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.ops.take(matrix, rows, axis=0)
    return tf.gather(
        matrix.value if isinstance(matrix, keras.Variable) else matrix, rows
    )


def gather_replicas(piece: Tensor) -> Tensor:
    """Gathers a batch from the pieces that `tf.distribute` gives its replicas.

    A replica's gradient by its own piece is the sum of those of all replicas, so that
    their mean over a loss of the whole batch is the gradient on one device.

    Args:
        piece: (piece, …), this replica's part of the batch.

    Returns:
        (batch, …), the same on every replica; `piece` itself where there is one
        replica, or where the backend does not split batches.
    """
    if keras.backend.backend() != "tensorflow":
        return piece
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return piece
    gathered = replica.all_gather(piece, axis=0)
    # Between machines the shape gets lost.
    return tf.ensure_shape(gathered, (None, *piece.shape[1:]))


def number_of_replicas() -> int:
    """Gives how many pieces `tf.distribute` cuts a batch into; 1 on other backends."""
    if keras.backend.backend() != "tensorflow":
        return 1
    return tf.distribute.get_strategy().num_replicas_in_sync


def check_can_export(written: str = "a SavedModel") -> None:
    """Checks that Keras runs on TensorFlow, which writes a SavedModel.

    Args:
        written: what is to be written, for the error message.

    Raises:
        ValueError: if it runs on another backend.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"{written} is not written with KERAS_BACKEND={backend}: where "
            "KERAS_BACKEND=tensorflow, load the model's .keras file and export that."
        )


def number_of_shards(model: Any) -> int:
    """Gives how many pieces `model.predict` cuts a batch into.

    On TensorFlow those are the replicas of the model's strategy, on JAX the shards of
    `keras.distribution`. What is no model has one.
    """
    if strategy := getattr(model, "distribute_strategy", None):
        return strategy.num_replicas_in_sync
    if keras.backend.backend() != "jax":
        return 1
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]


def check_can_predict() -> None:
    """Checks that Keras's `predict` works here.

    Raises:
        ValueError: if Keras runs on JAX in several processes, where it fails to fetch
            what others have computed.
    """
    if keras.backend.backend() != "jax":
        return
    import jax

    if jax.process_count() > 1:
        raise ValueError(
            "Keras's predict, by which images are embedded, doesn't run on JAX in "
            f"several processes; this is one of {jax.process_count()}. Save the model, "
            "and embed in a process of its own."
        )


def average_replicas(model: Any) -> None:
    """Gives all replicas of a model the mean of what each has of its own.

    Those are the statistics of batch normalization. Of several workers all must call
    it.

    Args:
        model: a model that may be distributed; its variables that are not trained
            change.
    """
    variables = model.non_trainable_variables
    strategy = getattr(model, "distribute_strategy", None)
    if IS_KERAS_2 or strategy is None or strategy.num_replicas_in_sync == 1:
        for variable in variables:  # On Keras 2 this reads the mean.
            variable.assign(ops.convert_to_numpy(variable))
        return
    floats = [one for one in variables if "float" in dtype_name(one.dtype)]
    if not floats:
        return

    of_replicas = [strategy.experimental_local_results(one.value) for one in floats]
    local_means = [
        tf.reshape(tf.reduce_mean(tf.cast(tf.stack(values), "float32"), 0), [-1])
        for values in of_replicas
    ]
    means = strategy.reduce("MEAN", tf.concat(local_means, axis=0), axis=None)
    sizes = [math.prod(one.shape) for one in floats]
    for variable, mean in zip(floats, tf.split(means, sizes), strict=True):
        variable.assign(tf.reshape(tf.cast(mean, variable.dtype), variable.shape))


def searchsorted(in_order: Tensor, values: Tensor) -> Tensor:
    """Finds where values would go in a sorted array, before those equal to them.

    On TensorFlow `keras.ops.searchsorted` takes no array of unknown length before Keras
    3.12.

    Args:
        in_order: (n,) numbers in ascending order.
        values: (m,) numbers of the same dtype.

    Returns:
        (m,) integers from 0 to n.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.ops.searchsorted(in_order, values)
    return tf.searchsorted(in_order, values)


def integer_labels(labels: Tensor) -> Tensor:
    """Makes integers of labels, which Keras does not cast under mixed precision.

    Args:
        labels: (batch,) or (batch, 1) numbers.

    Returns:
        (batch,) int64, or int32 on JAX; -1 for what is not a whole number.

    Raises:
        ValueError: if they have another shape, as one-hot labels do.
    """
    labels = ops.convert_to_tensor(labels)
    shape = tuple(labels.shape)
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        raise ValueError(
            "labels must be class numbers of shape (batch,) or (batch, 1); got shape "
            f"{shape}. Of one-hot labels give the argmax."
        )
    if "float" in dtype_name(labels.dtype):
        is_whole = ops.floor(labels) == labels
        labels = ops.where(is_whole, labels, -1.0)
    # In 32 bits a label of 2³² would be 0. JAX cuts every array to them on its way in.
    wide = "int32" if keras.backend.backend() == "jax" else "int64"
    return ops.reshape(ops.cast(labels, wide), (-1,))
