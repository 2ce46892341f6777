"""Reading what a run has written: its model and its settings."""

import contextlib
import importlib.util
import json
import os
import pathlib
import zipfile

import keras


def load_embedder(file: str | os.PathLike) -> keras.Model:
    """Loads an `embedding.keras` file, without running code from it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a `.keras` file, is damaged, was saved by Keras 2 and
            this is Keras 3, or the other way round, or needs KerasHub, which is not
            installed.
    """
    if not pathlib.Path(file).is_file():
        raise FileNotFoundError(
            f"no model file {str(file)!r}; name the embedding.keras of a finished run."
        )
    try:
        return keras.models.load_model(file, compile=False)
    except Exception as error:  # Keras, zipfile and h5py each raise their own.
        saved_by = _keras_version(file)
        if saved_by and saved_by[0] != keras.__version__[0]:
            raise ValueError(
                f"{str(file)!r} was saved by Keras {saved_by}, which Keras "
                f"{keras.__version__} can't read. Load it with that, or use the run's "
                "serving/ instead."
            ) from error
        if "keras_hub" in str(error) and not importlib.util.find_spec("keras_hub"):
            raise ValueError(
                f"the trunk in {str(file)!r} is KerasHub's, which is not installed: "
                'pip install "keras_dml[hub]"'
            ) from error
        raise ValueError(
            f"{str(file)!r} is not the embedding.keras of a run, or damaged: {error}"
        ) from error


def _keras_version(file):
    """The Keras version that a `.keras` file was saved by; None if it doesn't say."""
    with (
        contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile),
        zipfile.ZipFile(file) as archive,
    ):
        return json.loads(archive.read("metadata.json"))["keras_version"]


def load_run_config(run: str | os.PathLike) -> dict:
    """Reads the settings that a run was trained with.

    Args:
        run: the folder of a run, of this version or an earlier one. The keys are those
            that the settings had when it was trained.

    Raises:
        FileNotFoundError: if the folder is not that of a run.
        ValueError: if the file is damaged.
    """
    file = pathlib.Path(run) / "config.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"--run={str(run)!r} is not the folder of a run: no {file}."
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(file)!r} is damaged: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("resize"), int):
        raise ValueError(f"{str(file)!r} does not hold the settings of a run.")
    return config
