"""Three loaders need what the extra `datasets` installs, and only when called."""

import subprocess
import sys
import textwrap

import pytest

from keras_dml.data import cars196
from keras_dml.data import glyph_strings
from keras_dml.data import glyphs
from tests.data.miniature_archives import use_counts
from tests.data.miniature_archives import write_cars196

PACKAGES = ("PIL", "fontTools", "matplotlib", "scipy")


def test_importing_data_needs_none_of_them():
    # Keras imports all four where they are installed, so they are made to be missing.
    code = f"""
        import sys

        for package in {PACKAGES}:
            sys.modules[package] = None
        import keras_dml.data

        wanted = tuple(f"{{package}}." for package in {PACKAGES})
        print([name for name in sys.modules if name.startswith(wanted)])
        keras_dml.data.glyphs("nowhere")
    """
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert finished.stdout == "[]\n", finished.stderr
    assert finished.stderr.splitlines()[-1].startswith("ImportError: glyphs needs PIL,")


@pytest.fixture
def without(monkeypatch):
    """Makes a package, with all that was imported of it, look as if not installed."""

    def hide(package):
        for name in [*sys.modules, package]:
            if name.partition(".")[0] == package:
                monkeypatch.setitem(sys.modules, name, None)

    return hide


def message_of(call):
    with pytest.raises(ImportError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(': pip install "keras_dml[datasets]"')
    return message


def test_cars196_without_scipy_says_how_to_install_it(tmp_path, monkeypatch, without):
    use_counts(monkeypatch, "cars196", write_cars196(tmp_path))
    without("scipy")
    message = message_of(lambda: cars196(tmp_path))
    assert message.startswith("cars196 needs scipy, which is not installed")


@pytest.mark.parametrize("package", ["PIL", "fontTools", "matplotlib"])
@pytest.mark.parametrize("loader", [glyphs, glyph_strings])
def test_glyphs_without_a_package_say_how_to_install_it(
    tmp_path, without, package, loader
):
    without(package)
    message = message_of(lambda: loader(cache_dir=tmp_path))
    assert message.startswith(f"glyphs needs {package}, which is not installed")
    assert list(tmp_path.iterdir()) == []
