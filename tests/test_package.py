"""The wheel holds the package, whole, and needs nothing of the repository."""

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
