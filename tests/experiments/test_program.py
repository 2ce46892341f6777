import keras
import pytest
import tensorflow as tf

from experiments._lib import program
from tests.experiments.programs import run_program

GLYPHS = "--config=experiments/configs/glyphs.py"


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


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("train", [], "--config must be given, such as --config=experiments/configs/"),
        ("train", ["--config.epochs=5"], "--config must be given, such as"),
        ("evaluate", [], "--config and --model must be given, such as --config="),
        ("search", [], "--run and --image must be given. --help"),
        ("search", ["--run=a", "--image=b", "--k=0"], "--k=0: 0 is not a positive"),
        ("train", [GLYPHS, "--nosuch=1"], "Unknown command line flag 'nosuch'. --help"),
        (
            "train",
            [GLYPHS, "--config.balanced=5"],
            "--config.balanced=5: Non-boolean argument to boolean flag. --help",
        ),
        ("train", [GLYPHS, "--config.epochs=five"], "--config.epochs=five: invalid"),
        ("train", ["--config=a.py"], "No such file or directory: 'a.py'. The settings"),
        (
            "train",
            ["--config=a.py", "--config.epochs=5"],
            "No such file or directory: 'a.py'. The settings",
        ),
    ],
)
def test_wrong_flags_end_in_one_line_that_says_what_to_give(name, arguments, message):
    finished = run_program(name, *arguments)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ")
    assert message in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
