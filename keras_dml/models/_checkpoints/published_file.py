"""Checkpoints fetched from where they are published."""

import hashlib
import os
import pathlib
import re

import keras


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


def checkpoint_hash(file: str | os.PathLike) -> str:
    """The SHA-256 of a file, compared with the one in the file's name.

    A published PyTorch checkpoint is called `name-<hash>.pth`, where <hash> is eight
    or more of the first digits of its SHA-256.

    Args:
        file: the checkpoint.

    Returns:
        64 hexadecimal digits.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the name carries another hash than the file has.

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
            f"checkpoint {str(file)!r} is not the file that its name promises: its "
            f"SHA-256 starts with {found[: len(named[1])]}. Download it again, or take "
            "the hash out of its name if the contents are meant."
        )
    return found
