"""Writes a run's embedding model as a SavedModel, and says which one is served.

python -m experiments.export --run=saved_models/RUN
python -m experiments.export --run=saved_models/RUN --versions
python -m experiments.export --run=saved_models/RUN --serve=1
python -m experiments.export --run=saved_models/RUN --format=litert

The first writes the next version, RUN/serving/2 after RUN/serving/1, and leaves earlier
ones as they are; TF Serving serves the highest. The signatures are serving_default
(encoded image bytes) and images (pixels); both return embedding (float32) and code
(packed bits). The second lists the versions. The third writes
RUN/serving/models.config, by which a server that reads it serves that version, an
earlier one too, and --serve=latest has it serve the highest again. The last writes
RUN/serving/embedding.tflite, --format=litert_int8 embedding_int8.tflite beside it, and
--format=onnx embedding.onnx, which take pixels alone.
"""

import datetime
import json
import pathlib
import re

from absl import flags

from experiments._lib import program
from experiments._lib.load_run import load_embedder
from experiments._lib.load_run import load_run_config
from keras_dml import serving
from keras_dml._files import atomic_file

_RUN = flags.DEFINE_string("run", None, "The folder of a run.")
_FORMAT = flags.DEFINE_enum(
    "format",
    "saved_model",
    ["saved_model", "litert", "litert_int8", "onnx"],
    "What to write; litert_int8 has weights of 8 bits, and onnx needs the extra onnx.",
)
_VERSIONS = flags.DEFINE_bool("versions", False, "Lists the versions; exports nothing.")
_SERVE = flags.DEFINE_string(
    "serve",
    None,
    "The number of the version to serve, or latest; writes models.config and exports "
    "nothing.",
)
_BASE_PATH = flags.DEFINE_string(
    "base_path",
    None,
    "With --serve: the folder of the versions as the server sees it; as models.config "
    "has it by default, and at first /models/RUN, as in TF Serving's Docker image.",
)
flags.mark_flag_as_required("run")

_LATEST = "latest"


def main(argv: list[str]) -> None:
    """Model → SavedModel."""
    del argv
    run = pathlib.Path(_RUN.value)
    config = load_run_config(run)
    folder = run / "serving"
    commands = {
        "--versions": _VERSIONS.value,
        "--serve": _SERVE.value is not None,
        "--format": _FORMAT.present,
    }
    given = [name for name, is_given in commands.items() if is_given]
    if len(given) > 1:
        raise ValueError(f"give one of {' and '.join(given)}, which are two commands.")
    if _BASE_PATH.value is not None and _SERVE.value is None:
        raise ValueError("--base_path is written by --serve; give both.")
    if _VERSIONS.value:
        print(_table(folder))
    elif _SERVE.value is not None:
        print(_serve(folder, _SERVE.value, run.resolve().name, _BASE_PATH.value))
    else:
        embedder = load_embedder(run / "embedding.keras")
        if _FORMAT.value == "saved_model":
            print(_export_version(embedder, folder, config["resize"]))
        else:
            print(_export_file(embedder, folder, _FORMAT.value))


def _export_file(embedder, folder, format_name):
    """Writes a LiteRT or ONNX file; gives its path."""
    folder.mkdir(exist_ok=True)
    if format_name == "onnx":
        file = folder / "embedding.onnx"
        serving.export_onnx(embedder, file)
        return file
    int8 = format_name == "litert_int8"
    file = folder / ("embedding_int8.tflite" if int8 else "embedding.tflite")
    serving.export_litert(embedder, file, int8)
    return file


def _export_version(embedder, folder, resize):
    """Writes the next version; gives its path and, where it's not served, says so."""
    numbers = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    number = max(numbers, default=0) + 1
    serving.export(embedder, folder / str(number), resize)
    pinned, _ = _served(folder)
    if pinned == _LATEST:
        return folder / str(number)
    return (
        f"{folder / str(number)}\n{folder / 'models.config'} serves version {pinned}; "
        f"--serve={number} changes that."
    )


def _versions(folder):
    """The numbers of the versions that can be served, in order."""
    models = folder.glob("*/saved_model.pb")
    return sorted(int(file.parent.name) for file in models if _is_version(file.parent))


def _is_version(folder):
    # To TF Serving 01 is version 1 as well.
    return re.fullmatch("[1-9][0-9]*", folder.name)


def _served(folder):
    """Which version models.config serves, and from which path; None without the file.

    Returns:
        The number as text, or "latest"; the path or None.
    """
    file = folder / "models.config"
    if not file.exists():
        return _LATEST, None
    text = file.read_text(encoding="utf-8")
    number = re.search(r"\bversions:\s*(\d+)", text)
    path = re.search(r'\bbase_path:\s*("(?:[^"\\]|\\.)*")', text)
    return number[1] if number else _LATEST, json.loads(path[1]) if path else None


def _table(folder):
    """The versions, when each was written, and which one is served."""
    versions = _versions(folder)
    served, _ = _served(folder)
    if served == _LATEST:
        served = str(max(versions, default=0))
    lines = ["version  written           served"]
    for version in versions:
        seconds = (folder / str(version) / "saved_model.pb").stat().st_mtime
        written = datetime.datetime.fromtimestamp(seconds)
        mark = "yes" if str(version) == served else ""
        lines.append(f"{version:<7}  {written:%Y-%m-%d %H:%M}  {mark}".rstrip())
    return "\n".join(lines)


def _serve(folder, version, name, base_path):
    """Writes models.config, for TF Serving's flag --model_config_file.

    Args:
        folder: that of the versions.
        version: the number of one, as text, or "latest".
        name: the model's, in requests.
        base_path: the folder of the versions as the server sees it; None to leave it.

    Returns:
        The path of the file.

    Raises:
        ValueError: if there is no such version.
    """
    versions = [str(number) for number in _versions(folder)]
    if version not in (_LATEST, *versions):
        raise ValueError(
            f"--serve={version!r} is no version in {str(folder)!r}; it holds "
            f"{', '.join(versions) or 'none'}. Give one of them, or {_LATEST}."
        )
    _, former_path = _served(folder)
    base_path = base_path or former_path or f"/models/{name}"
    if version == _LATEST:
        policy = "latest { num_versions: 1 }"
    else:
        policy = f"specific {{ versions: {version} }}"
    file = folder / "models.config"
    with atomic_file(file) as unfinished:
        unfinished.write_text(
            "model_config_list {\n"
            "  config {\n"
            f"    name: {json.dumps(name, ensure_ascii=False)}\n"
            f"    base_path: {json.dumps(base_path, ensure_ascii=False)}\n"
            '    model_platform: "tensorflow"\n'
            f"    model_version_policy {{ {policy} }}\n"
            "  }\n"
            "}\n",
            encoding="utf-8",
        )
    return file


if __name__ == "__main__":
    program.run(main)
