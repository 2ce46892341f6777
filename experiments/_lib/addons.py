"""TensorFlow Addons, whose losses and optimizers a config names as "tfa:NAME"."""

import types
import warnings

PREFIX = "tfa:"


def import_addons(setting: str) -> types.ModuleType:
    """Imports TensorFlow Addons, without its warning about its end of life.

    Args:
        setting: what needs it, such as "--config.loss=tfa:LiftedStructLoss".

    Raises:
        ImportError: if it is not installed, or can't run with this version of Keras.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow_addons
    except (AttributeError, ImportError) as error:  # On Keras 3 it raises either.
        raise ImportError(
            f"{setting} needs TensorFlow Addons, which runs on TensorFlow and Keras "
            "2.15 at most: in a new environment of Python 3.10 or 3.11, "
            f'pip install "keras_dml[addons]" ({error})'
        ) from error
    return tensorflow_addons
