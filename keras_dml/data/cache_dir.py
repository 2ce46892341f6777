"""Where data that can be made again is kept."""

import os
import pathlib


def default_cache_dir() -> pathlib.Path:
    """`$KERAS_DML_CACHE` if set, else `~/.cache/keras_dml`."""
    return pathlib.Path(
        os.environ.get("KERAS_DML_CACHE") or "~/.cache/keras_dml"
    ).expanduser()
