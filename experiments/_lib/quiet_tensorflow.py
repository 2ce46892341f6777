"""TensorFlow without its start-up messages."""

import os
import sys


def import_tensorflow() -> None:
    """Imports TensorFlow with its C++ messages hidden; its exceptions still show.

    Some are printed before TensorFlow reads TF_CPP_MIN_LOG_LEVEL, so stderr is
    redirected to the null device while TensorFlow is imported. If that variable is set,
    nothing is hidden.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    stderr = os.dup(2)
    null_device = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null_device, 2)
    try:
        import tensorflow
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null_device)
    tensorflow.get_logger().setLevel("ERROR")
