"""Checkpoints fetched from where they are published."""

import keras

from keras_dml.models.checkpoint_hash import checkpoint_hash


def download_checkpoint(url: str) -> str:
    """Fetches a file once, into Keras's `models` cache, and checks it each time.

    Args:
        url: its address, whose last part carries the beginning of the file's SHA-256
            after a dash, as PyTorch's file names do: "resnet50-0676ba61.pth".

    Returns:
        The path of the file.

    Raises:
        OSError: if it can't be downloaded, or the file is not the published one.
    """
    try:
        path = keras.utils.get_file(origin=url, cache_subdir="models")
    except Exception as error:
        # Keras raises a plain Exception where it can't download.
        if not isinstance(error, OSError) and "URL fetch failure" not in str(error):
            raise
        raise OSError(
            f"the ImageNet weights can't be downloaded ({error}). Give weights=None, "
            "or a weights file."
        ) from error
    try:
        checkpoint_hash(path)
    except ValueError as error:
        raise OSError(f"{error} It is in Keras's cache: delete it first.") from error
    return path
