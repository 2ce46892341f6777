import keras
import pytest
import tensorflow as tf

from experiments._lib import program


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError, ImportError])
def test_error_of_the_user_s_making_ends_in_one_line(kind, monkeypatch, capsys):
    def main(argv):
        raise kind("say what to do")

    monkeypatch.setattr(program.app, "run", lambda run, flags_parser: run(["program"]))
    with pytest.raises(SystemExit, match="2"):
        program.run(main)
    assert capsys.readouterr().err == "error: say what to do\n"


def test_error_of_ours_keeps_its_traceback(monkeypatch):
    def main(argv):
        raise RuntimeError("a bug")

    monkeypatch.setattr(program.app, "run", lambda run, flags_parser: run(["program"]))
    with pytest.raises(RuntimeError, match="a bug"):
        program.run(main)


@pytest.mark.parametrize(
    ("backend", "hidden"), [("tensorflow", []), ("jax", ["GPU"]), ("torch", ["GPU"])]
)
def test_gpu_is_left_to_the_backend(backend, hidden, monkeypatch):
    found = []

    def hide(devices, kind):
        assert devices == []
        found.append(kind)

    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(tf.config, "set_visible_devices", hide)
    monkeypatch.setattr(program.app, "run", lambda run, flags_parser: run(["program"]))
    program.run(lambda argv: None)
    assert found == hidden
