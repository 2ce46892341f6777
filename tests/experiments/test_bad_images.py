"""What the programs do about images that can't be read."""

import csv
import json

import pytest

from keras_dml.search import load_gallery
from tests.experiments.programs import SMALL
from tests.experiments.programs import run_program
from tests.experiments.programs import write_photos

BAD = {
    "train/train class 1/2.jpg": "it is no JPEG, PNG, BMP, GIF or WebP file",
    "test/test class 0/0.jpg": "the file is empty",
    "test/test class 3/5.jpg": "No such file or directory",
}


@pytest.fixture
def photos(tmp_path):
    root = write_photos(tmp_path / "photos")
    text, empty, link = (root / file for file in BAD)
    text.write_text("not an image")
    empty.write_bytes(b"")
    link.unlink()
    link.symlink_to("missing.jpg")
    return root


def run(name, photos, *arguments):
    return run_program(name, *SMALL, f"--data_dir={photos}", *arguments)


def listed(folder):
    with open(folder / "bad_images.txt", newline="") as stream:
        return dict(csv.reader(stream, delimiter="\t"))


@pytest.mark.slow
def test_run_ends_without_them_and_lists_them(photos, tmp_path):
    folder = tmp_path / "run"
    finished = run("train", photos, f"--output_dir={folder}", "--on_bad_image=skip")
    assert finished.returncode == 0, finished.stderr
    expected = {str(photos / file): reason for file, reason in BAD.items()}
    assert listed(folder) == expected
    for path, reason in expected.items():
        assert f"{path}: {reason}" in finished.stdout
    assert finished.stdout.endswith(
        f"3 images can't be read and took no part; {folder}/bad_images.txt lists them."
        "\n"
    )
    assert "Training conv4 on 36 images of 6 classes" in finished.stdout
    gallery = load_gallery(folder / "index")
    assert len(gallery.paths) == 34
    assert not {*gallery.paths} & {*expected}
    for path, name in zip(gallery.paths, gallery.classes, strict=True):
        assert f"/{name}/" in path

    evaluated = run(
        "evaluate",
        photos,
        f"--model={folder / 'embedding.keras'}",
        f"--output={tmp_path / 'again.json'}",
        "--on_bad_image=skip",
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert "2 images can't be read:" in evaluated.stdout
    again = json.loads((tmp_path / "again.json").read_text())
    first = json.loads((folder / "metrics.json").read_text())
    assert again["float"] == pytest.approx(first["float"])

    indexed = run_program(
        "index",
        f"--run={folder}",
        f"--data_dir={photos / 'test'}",
        f"--output_dir={tmp_path / 'photos.index'}",
        "--on_bad_image=skip",
    )
    assert indexed.returncode == 0, indexed.stderr
    assert "34 images" in indexed.stdout
    assert f"{photos}/test/test class 0/0.jpg: the file is empty" in indexed.stdout


@pytest.mark.slow
def test_run_that_one_of_them_ended_goes_on_without_it(photos, tmp_path):
    for file in list(BAD)[1:]:
        (photos / file).unlink()
    arguments = (f"--output_dir={tmp_path / 'run'}", "--checkpoint_minutes=0")
    ended = run("train", photos, *arguments)
    assert ended.returncode == 2
    text = photos / next(iter(BAD))
    assert f"repair or remove it: {text}" in ended.stderr
    assert ended.stdout.endswith("\n")  # after the progress bar
    assert not (tmp_path / "run" / "metrics.json").exists()

    finished = run("train", photos, *arguments, "--on_bad_image=skip")
    assert finished.returncode == 0, finished.stderr
    assert list(listed(tmp_path / "run")) == [str(text)]
    with open(tmp_path / "run" / "log.csv", newline="") as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == ["0", "1", "2"]


def test_run_without_the_flag_names_the_first(photos, tmp_path):
    finished = run("train", photos, f"--output_dir={tmp_path / 'run'}")
    assert finished.returncode == 2
    assert "test class 0/0.jpg' is an empty file" in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
