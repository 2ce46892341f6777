"""From a run's folder to what is in it."""

import json
import os
import pathlib
import zipfile

import keras


def load_embedder(file: str | os.PathLike) -> keras.Model:
    """Loads an `embedding.keras` file, without running code from it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a whole `.keras` file.
    """
    if not pathlib.Path(file).is_file():
        raise FileNotFoundError(
            f"no model file {str(file)!r}; give the embedding.keras of a finished run."
        )
    if not zipfile.is_zipfile(file):
        raise ValueError(f"{str(file)!r} is not a whole .keras file.")
    return keras.models.load_model(file, compile=False)


def load_run_config(run: str | os.PathLike) -> dict:
    """Reads the settings that a run was trained with.

    Raises:
        FileNotFoundError: if the folder is not that of a run.
    """
    file = pathlib.Path(run) / "config.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"--run={str(run)!r} is not the folder of a run: no {file}."
        )
    return json.loads(file.read_text(encoding="utf-8"))
