"""The wheel holds the package, whole, and needs nothing of the repository."""

import inspect
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

import keras_dml

ROOT = pathlib.Path(__file__).parents[1]

_USE = """
import sys
sys.path.insert(0, {site!r})
import keras_dml
assert keras_dml.__file__.startswith({site!r}), keras_dml.__file__
for room in keras_dml.__all__:
    module = getattr(keras_dml, room)
    for name in module.__all__:
        assert getattr(module, name).__doc__, name
assert "experiments" not in sys.modules and "tests" not in sys.modules
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    # From a copy, as building leaves files beside setup.py.
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "keras_dml", source / "keras_dml")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source],
        check=True,
    )
    (file,) = folder.glob("*.whl")
    return file


@pytest.mark.slow
def test_wheel_imports_from_anywhere(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        names = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in names if "dist-info" not in name} == {"keras_dml"}
    subprocess.run(
        [sys.executable, "-c", _USE.format(site=str(site))], cwd=tmp_path, check=True
    )


def test_version_is_the_same_everywhere(wheel):
    assert re.search(r"keras_dml-([\d.]+)-", wheel.name)[1] == keras_dml.__version__


def test_unknown_room_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_dml.nothing


def _signatures():
    """(name, signature) of every public function and method of the package."""
    for room in keras_dml.__all__:
        module = getattr(keras_dml, room)
        for name in module.__all__:
            public = getattr(module, name)
            if inspect.isfunction(public):
                yield f"{room}.{name}", inspect.signature(public)
            if not inspect.isclass(public):
                continue
            for inner, method in vars(public).items():
                method = getattr(method, "__func__", method)
                is_ours = getattr(method, "__module__", "").startswith("keras_dml")
                is_public = not inner.startswith("_") or inner == "__init__"
                if inspect.isfunction(method) and is_ours and is_public:
                    yield f"{room}.{name}.{inner}", inspect.signature(method)


@pytest.mark.parametrize(("name", "signature"), list(_signatures()))
def test_public_signature_says_the_type_of_everything(name, signature):
    untyped = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty
        and parameter.name not in ("self", "cls")
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    assert not untyped
    if not name.endswith("__init__"):
        assert signature.return_annotation is not signature.empty


def _loaded_by(code, **environment):
    """The packages that Python has loaded after running code in a new process."""
    finished = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in finished.stdout.split()}


def test_importing_the_package_loads_no_package_of_an_extra():
    rooms = "; ".join(f"keras_dml.{room}" for room in keras_dml.__all__)
    extras = {"scipy", "matplotlib", "fontTools", "PIL", "ml_collections", "faiss"}
    extras |= {"tensorboard", "keras_hub", "safetensors", "torch", "jax", "annoy"}
    # Keras looks for some of them itself; tests/data and tests/training hide those.
    extras -= _loaded_by("import keras")
    assert {"ml_collections", "faiss", "keras_hub", "annoy"} <= extras
    assert not extras & _loaded_by(f"import keras_dml; {rooms}")


def test_parts_and_measures_need_no_tensorflow_on_another_backend():
    pytest.importorskip("jax")
    code = "import keras_dml; keras_dml.evaluation"
    assert "tensorflow" not in _loaded_by(code, KERAS_BACKEND="jax")
