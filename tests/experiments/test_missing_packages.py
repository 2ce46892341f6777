"""The extra `experiments`: the programs say in one line which package is missing."""

import pathlib

import pytest

import experiments
from tests.experiments.programs import ROOT
from tests.experiments.programs import run_program

PROGRAMS = sorted(
    file.stem
    for file in pathlib.Path(experiments.__file__).parent.glob("*.py")
    if file.stem != "__init__"
)
PACKAGES = ("ml_collections", "tensorboard", "matplotlib", "scipy", "fontTools", "PIL")


def run_without(package, name, folder):
    """Runs a program where importing the package fails."""
    (folder / package).mkdir()
    reason = f"No module named {package!r}"
    (folder / package / "__init__.py").write_text(f"raise ImportError({reason!r})")
    # -m puts the current folder before all others.
    return run_program(name, cwd=folder, PYTHONPATH=f"{folder}:{ROOT}")


@pytest.mark.parametrize(
    ("package", "name"),
    [("ml_collections", name) for name in PROGRAMS]
    + [(package, "train") for package in PACKAGES[1:]],
)
def test_missing_package_ends_every_program_in_one_line(package, name, tmp_path):
    finished = run_without(package, name, tmp_path)
    assert finished.returncode == 2
    assert finished.stderr == (
        f"error: No module named {package!r}. The programs need the extra experiments: "
        'pip install "keras_dml[experiments]"\n'
    )
    assert finished.stdout == ""
