"""Downloading published checkpoints, and comparing their SHA-256."""

import hashlib
import os
import pathlib
import re

import keras


def download_checkpoint(url: str) -> str:
    """Downloads a file once, into Keras's `models` cache, and checks it at every call.

    Args:
        url: an address that ends in a file name with the first digits of the file's
            SHA-256 after a dash, as PyTorch has them: ".../resnet50-0676ba61.pth".

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


def checkpoint_hash(file: str | os.PathLike) -> str:
    """Returns the SHA-256 of a checkpoint, compared with the one in its file name.

    A published PyTorch checkpoint is named `name-<hash>.pth`, where <hash> is the first
    eight or more digits of its SHA-256. A name without a hash is not compared.

    Args:
        file: the checkpoint.

    Returns:
        64 hexadecimal digits.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file has another hash than its name says.

    Example:
        >>> import pathlib
        >>> written = pathlib.Path("network-9a129038.pth").write_bytes(b"weights")
        >>> checkpoint_hash("network-9a129038.pth")
        '9a129038...'

    Reference:
        `check_hash` of `torch.hub.load_state_dict_from_url`.
    """
    path = pathlib.Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint file {str(file)!r}.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    named = re.search(r"-([0-9a-f]{8,64})\.", path.name)
    if named and not found.startswith(named[1]):
        raise ValueError(
            f"checkpoint {str(file)!r} is not the file that its name says: its SHA-256 "
            f"starts with {found[: len(named[1])]}. Download it again, or remove the "
            "hash from its name if this content is meant."
        )
    return found
