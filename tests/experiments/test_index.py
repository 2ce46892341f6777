import importlib.util

import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import index


def run_index(**arguments):
    """Runs its main function here, with neither run nor images to be read."""
    nowhere = dict.fromkeys(("run", "data_dir"), "nowhere")
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**nowhere, **arguments):
        index.main([])


def test_run_is_asked_for_when_all_else_is_right(tmp_path):
    with pytest.raises(FileNotFoundError, match="--run='nowhere' is not the folder"):
        run_index(output_dir=str(tmp_path / "deep" / "new"), kind="hnsw", agreement=1.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("agreement", 0.0),
        ("agreement", float("nan")),
        ("agreement", 1.01),
        ("seed", -1),
        ("seed", 3_000_000_000),
    ],
)
def test_number_out_of_range_is_refused_before_anything_is_read(name, value, tmp_path):
    with pytest.raises(flags.IllegalFlagValueError, match=f"--{name}="):
        run_index(output_dir=str(tmp_path / "new"), **{name: value})


def test_missing_faiss_is_said_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "keras_dml\[faiss\]"'):
        run_index(output_dir=str(tmp_path / "new"), kind="hnsw")


def test_output_that_cannot_be_made_is_refused_before_anything_is_read(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match=r"--output_dir=.*exists already"):
        run_index(output_dir=str(file))
    with pytest.raises(NotADirectoryError, match=r"--output_dir=.*cannot be made in"):
        run_index(output_dir=str(file / "new"))
