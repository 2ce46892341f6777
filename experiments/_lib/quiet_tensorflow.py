"""TensorFlow without its start-up messages."""

import os
import sys


def import_tensorflow():
    """Imports TensorFlow with its C++ messages hidden; its exceptions still show.

    Some are printed before TensorFlow reads TF_CPP_MIN_LOG_LEVEL, so the process's
    error stream is closed to it while it loads. Set the variable to see them all.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
    tensorflow.get_logger().setLevel("ERROR")
