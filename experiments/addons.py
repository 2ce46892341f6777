"""TensorFlow Addons' own, as "tfa:NAME" names it in a config."""

import types
import warnings

from keras_dml._ops import IS_KERAS_2

PREFIX = "tfa:"


def import_addons(setting: str) -> types.ModuleType:
    """Imports TensorFlow Addons, without its words on its end of life.

    Args:
        setting: what asks for it, such as "--config.loss=tfa:LiftedStructLoss".

    Raises:
        ImportError: if it is not installed, or can't run beside this Keras.
    """
    remedy = (
        f"{setting} needs TensorFlow Addons, which runs on TensorFlow and Keras 2.15 "
        "at most: in a new environment of Python 3.10 or 3.11, "
        'pip install "keras_dml[addons]"'
    )
    if not IS_KERAS_2:
        raise ImportError(remedy)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow_addons
    except ImportError as error:
        raise ImportError(f"{remedy} ({error})") from error
    return tensorflow_addons
