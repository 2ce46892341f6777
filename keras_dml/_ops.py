"""What differs between versions and backends of Keras, so that layers need not know.

On Keras 3 `ops`, `Loss`, `Optimizer` and the like are Keras's own. On Keras 2.15, beside
which alone TensorFlow Addons imports, each is a stand-in of TensorFlow's functions, as
far as keras_dml uses it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import types
from typing import Any
from typing import TypeAlias

import keras

Tensor: TypeAlias = Any
"""A tensor of whichever backend Keras runs on."""

IS_KERAS_2 = keras.__version__.startswith("2.")
"""Whether this is Keras 2.15, with TensorFlow Addons or without."""


def check_versions(keras_version: str, tensorflow_version: str | None) -> None:
    """Refuses Keras and TensorFlow that keras_dml was not made for.

    Args:
        keras_version: such as "3.15.1".
        tensorflow_version: the same; None where Keras runs on another backend.

    Raises:
        ImportError: if it is another pair than setup.py allows.
    """
    if _minor(keras_version) == _minor(tensorflow_version) == (2, 15):
        return
    if _minor(keras_version) >= (3, 8) and (
        tensorflow_version is None or _minor(tensorflow_version) >= (2, 18)
    ):
        return
    raise ImportError(
        "keras_dml runs on Keras 3.8 or newer with TensorFlow 2.18 or newer, or on "
        f"Keras 2.15 with TensorFlow 2.15; found Keras {keras_version} with TensorFlow "
        f'{tensorflow_version}. Use pip install "keras>=3.8" "tensorflow>=2.18", or, '
        'to have TensorFlow Addons beside it, pip install "keras_dml[addons]".'
    )


def _minor(version):
    return version and tuple(map(int, version.split(".")[:2]))


def import_extra(module: str, user: str, extra: str) -> types.ModuleType:
    """Imports a package that only an extra of keras_dml installs.

    Args:
        module: what to import, such as "scipy.io".
        user: what needs it, for the error message, such as "cars196".
        extra: the extra that installs it, such as "datasets".

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
    # Keras has imported it before.
    import tensorflow as tf

    check_versions(keras.__version__, tf.__version__)
else:
    check_versions(keras.__version__, None)


if not IS_KERAS_2:
    ops = keras.ops
    Loss = keras.losses.Loss
    Optimizer = keras.optimizers.Optimizer
    dtype_name = keras.backend.standardize_dtype
    NOT_AUTOCAST = types.MappingProxyType({"autocast": False})

    def weight_name(weight):
        """Gives the name that the layer has given to its weight."""
        return weight.name

    def weight_path(weight):
        """Gives the name of the weight in the model."""
        return weight.path

    def write_archive(archive, folder):
        """Writes a `keras.export.ExportArchive` without a word."""
        archive.write_out(folder, verbose=False)

else:
    ops = types.SimpleNamespace(
        any=tf.reduce_any,
        arange=tf.range,
        broadcast_to=tf.broadcast_to,
        cast=tf.cast,
        convert_to_numpy=lambda x: tf.convert_to_tensor(x).numpy(),
        convert_to_tensor=tf.convert_to_tensor,
        copy=tf.identity,
        diagonal=tf.linalg.diag_part,
        exp=tf.exp,
        flip=lambda x, axis: tf.reverse(x, [axis]),
        log=tf.math.log,
        logaddexp=lambda x, y: tf.maximum(x, y) + tf.nn.softplus(-abs(x - y)),
        logical_and=tf.logical_and,
        logical_not=tf.logical_not,
        logsumexp=tf.reduce_logsumexp,
        max=tf.reduce_max,
        maximum=tf.maximum,
        mean=tf.reduce_mean,
        relu=tf.nn.relu,
        reshape=tf.reshape,
        rsqrt=tf.math.rsqrt,
        shape=tf.shape,
        softplus=tf.nn.softplus,
        sqrt=tf.sqrt,
        square=tf.square,
        squeeze=tf.squeeze,
        stop_gradient=tf.stop_gradient,
        sum=tf.reduce_sum,
        transpose=tf.transpose,
        where=tf.where,
        zeros=tf.zeros,
        zeros_like=tf.zeros_like,
    )
    NOT_AUTOCAST = types.MappingProxyType({"experimental_autocast": False})

    def dtype_name(dtype):
        """Gives a dtype's name, such as "float32"."""
        return tf.as_dtype(dtype).name

    def weight_name(weight):
        """Gives the name that Keras 3 would give, "kernel" for "conv/kernel:0"."""
        return weight_path(weight).rpartition("/")[-1]

    def weight_path(weight):
        """Gives the path that Keras 3 would give, "conv/kernel" for that."""
        return weight.name.partition(":")[0].replace("/depthwise_kernel", "/kernel")

    def write_archive(archive, folder):
        """Writes a `keras.export.ExportArchive` without a word."""
        with contextlib.redirect_stdout(io.StringIO()):
            archive.write_out(folder)

    class Loss(keras.losses.Loss):
        """A loss with a dtype, to which the predictions are cast."""

        def __init__(self, name=None, reduction="sum_over_batch_size", dtype=None):
            """Takes what Keras 3 takes."""
            super().__init__("none" if reduction is None else reduction, name)
            self.dtype = dtype or keras.backend.floatx()

        def __call__(self, y_true, y_pred, sample_weight=None):
            """Gives the loss of a batch."""
            return super().__call__(y_true, tf.cast(y_pred, self.dtype), sample_weight)

        def get_config(self):
            """Adds the dtype."""
            return {**super().get_config(), "dtype": self.dtype}

    class Optimizer(keras.optimizers.Optimizer):
        """An optimizer whose subclasses are written as Keras 3 has them."""

        def __init__(self, learning_rate, name=None, **kwargs):
            """Takes the learning rate, which Keras 2 leaves to the subclass."""
            super().__init__(name=name or type(self).__name__, **kwargs)
            schedule = keras.optimizers.schedules.LearningRateSchedule
            if callable(learning_rate) and not isinstance(learning_rate, schedule):
                raise ValueError(
                    "learning_rate must be a number or a LearningRateSchedule on Keras "
                    f"2.15; got {learning_rate!r}."
                )
            self._learning_rate = self._build_learning_rate(learning_rate)

        @property
        def built(self):
            """Whether there are variables."""
            return getattr(self, "_built", False)

        def build(self, variables):
            """Numbers the variables."""
            super().build(variables)
            self._built = True

        def add_variable_from_reference(self, variable, name):
            """Makes a variable of zeros, of the shape of another."""
            return super().add_variable_from_reference(variable, name)

        def apply(self, gradients, variables):
            """Makes a step."""
            self.apply_gradients(zip(gradients, variables, strict=True))

        def _get_variable_index(self, variable):
            return self._index_dict[self._var_key(variable)]

        def _update_step(self, gradient, variable):
            self.update_step(gradient, variable, self.learning_rate)

        def assign(self, variable, value):
            """Sets a variable."""
            variable.assign(value)

        def assign_sub(self, variable, value):
            """Subtracts from a variable."""
            variable.assign_sub(value)

        def get_config(self):
            """Adds the learning rate."""
            rate = self._serialize_hyperparameter(self._learning_rate)
            rate = rate if isinstance(rate, dict) else float(rate)
            return {**super().get_config(), "learning_rate": rate}


def gather_rows(matrix, rows):
    """Gathers rows of a variable; on TensorFlow their gradient is sparse.

    Keras's `take` reads the whole variable first, which TensorFlow answers with a copy
    once rows of it have been written.

    Args:
        matrix: a variable of shape (rows, dim), Keras's or TensorFlow's own.
        rows: (n,) integers.

    Returns:
        (n, dim).
    """
    if keras.backend.backend() != "tensorflow":
        return keras.ops.take(matrix, rows, axis=0)
    import tensorflow as tf

    return tf.gather(
        matrix.value if isinstance(matrix, keras.Variable) else matrix, rows
    )
