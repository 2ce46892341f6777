import pathlib
import shlex
import shutil

import pytest

from tests.data.miniature_archives import spread
from tests.data.miniature_archives import write_cars196_devkit
from tests.data.miniature_archives import write_cub200
from tests.data.miniature_archives import write_in_shop
from tests.experiments.programs import run_program
from tests.experiments.programs import run_with_counts


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """CUB-200-2011 with as many classes and images as the official one has."""
    root = tmp_path_factory.mktemp("birds")
    write_cub200(root / "CUB_200_2011", spread(5864, 100), spread(5924, 100))
    return root


def printed_rows(finished):
    """The printed table: {first word: the others}."""
    lines = finished.stdout.splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines if line}


def test_whole_copy_passes(birds):
    finished = run_program("prepare", "--dataset=cub200", f"--data_dir={birds}")
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    rows = printed_rows(finished)
    assert rows["cub200"] == ["classes", "images"]
    assert rows["train"] == ["100", "5,864"]
    assert rows["test"] == ["100", "5,924"]
    assert "11788/11788" in finished.stdout
    assert "Every image can be read." in finished.stdout
    assert f"configs/cub200.py --data_dir={birds}" in finished.stdout


def test_queries_and_gallery_are_told_apart(tmp_path):
    folder = tmp_path / "In-shop Clothes Retrieval Benchmark"
    counts = write_in_shop(folder)
    finished = run_with_counts(
        "in_shop", counts, "prepare", "--dataset=in_shop", f"--data_dir={folder}"
    )
    assert finished.returncode == 0, finished.stderr
    # A shell takes the spaces of the official name as part of it.
    assert shlex.split(finished.stdout.splitlines()[-1])[-1] == f"--data_dir={folder}"
    rows = printed_rows(finished)
    assert rows["train"] == ["2", "5"]
    assert rows["query"] == ["3", "5"]
    assert rows["gallery"] == ["3", "5"]
    assert "test" not in rows


def test_all_unreadable_images_are_named_unless_they_are_not_asked_for(tmp_path):
    counts = write_cars196_devkit(tmp_path / "cars")
    bad = [f"{tmp_path}/cars/cars_{half}/00003.jpg" for half in ("train", "test")]
    for path in bad:
        pathlib.Path(path).write_bytes(b"not an image")
    arguments = ("prepare", "--dataset=cars196", f"--data_dir={tmp_path / 'cars'}")
    finished = run_with_counts("cars196", counts, *arguments)
    assert finished.returncode == 2
    assert printed_rows(finished)["train"] == ["2", "5"]
    assert "Every image" not in finished.stdout
    first, *named = finished.stderr.splitlines()
    assert first == "error: Cannot read 2 of 12 images; repair or remove them:"
    assert sorted(named) == sorted(bad)

    finished = run_with_counts("cars196", counts, *arguments, "--noimages")
    assert finished.returncode == 0, finished.stderr
    assert printed_rows(finished)["train"] == ["2", "5"]


def test_where_to_get_it_is_said_where_it_is_not(tmp_path):
    finished = run_program("prepare", "--dataset=cars196", f"--data_dir={tmp_path}")
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: no devkit/cars_train_annos.mat or cars_annos.mat in")
    assert "https://ai.stanford.edu/~jkrause/cars/car_dataset.html" in line


def test_missing_images_are_counted_without_reading_any(birds, tmp_path):
    for name in ("images.txt", "image_class_labels.txt", "classes.txt"):
        shutil.copy(birds / "CUB_200_2011" / name, tmp_path)
    finished = run_program("prepare", "--dataset=cub200", f"--data_dir={tmp_path}")
    assert finished.returncode == 2
    assert "11,788 of 11,788 images are missing" in finished.stderr
    assert "Reading" not in finished.stdout


def test_unknown_data_set_is_refused():
    finished = run_program("prepare", "--dataset=birds", "--data_dir=x")
    assert finished.returncode != 0
    assert "cub200" in finished.stderr
