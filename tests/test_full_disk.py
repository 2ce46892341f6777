"""What is written to a disk that is full, can't be written, or goes away."""

import errno
import json
import shutil
import subprocess

import keras
import numpy as np
import pytest

from keras_dml import data
from keras_dml import search
from keras_dml._files import atomic_file
from keras_dml._files import atomic_folder
from keras_dml._files import check_writable_file
from keras_dml._files import write_json
from keras_dml._ops import IS_KERAS_2
from keras_dml.data._pipeline import batches
from keras_dml.serving import export
from keras_dml.training import Resume
from keras_dml.training import write_report

SIZE = 2 * 2**20


@pytest.fixture
def disk(tmp_path):
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder)
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(("umount", "--lazy", folder), check=True)


def fill(disk, leave):
    """Leaves so many bytes free."""
    size = shutil.disk_usage(disk).free - leave
    (disk / "filling").write_bytes(bytes(size))


def contents(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes() if file.is_file() else None
        for file in sorted(folder.rglob("*"))
    }


def assert_refused(write, disk, name, reason="No space left on device"):
    """Writing raises one error that names `name`, and leaves all as it was."""
    before = contents(disk)
    with pytest.raises(OSError, match=f"{name}.*{reason}") as caught:
        write()
    assert "\n" not in str(caught.value)
    assert contents(disk) == before
    return caught.value


def test_file_is_not_replaced_by_half_of_another(disk):
    file = disk / "file"

    def write(size):
        with atomic_file(file) as unfinished:
            unfinished.write_bytes(bytes(size))

    write(SIZE * 3 // 4)
    error = assert_refused(lambda: write(SIZE // 2), disk, "disk/file'")
    assert error.errno == errno.ENOSPC


def test_short_write_of_an_array_is_a_full_disk(disk):
    def write():
        with atomic_file(disk / "array.npy") as unfinished:
            np.save(unfinished, np.zeros(SIZE, np.uint8))

    assert_refused(write, disk, "array.npy'")


def test_json_stays_whole(disk):
    write_json(disk / "figures.json", {"kept": 1})
    fill(disk, leave=20_000)
    big = list(range(10_000))
    assert_refused(lambda: write_json(disk / "figures.json", big), disk, "figures.json")
    assert json.loads((disk / "figures.json").read_text()) == {"kept": 1}


def test_folder_of_a_full_disk_is_absent(disk):
    def write():
        with atomic_folder(disk / "folder") as unfinished:
            (unfinished / "small").write_bytes(bytes(1000))
            (unfinished / "large").write_bytes(bytes(SIZE))

    assert_refused(write, disk, "disk/folder'")


def test_disk_that_is_read_only_is_named(disk):
    (disk / "file").write_text("kept")
    subprocess.run(("mount", "-o", "remount,ro", disk), check=True)
    for write in (
        lambda: write_json(disk / "file", 1),
        lambda: check_writable_file(disk / "file", "--output"),
        lambda: atomic_folder(disk / "new" / "folder").__enter__(),
    ):
        assert_refused(write, disk, "disk/", "Read-only file system")


def test_folder_that_vanished_is_named(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()

    def write():
        with atomic_file(folder / "file") as unfinished:
            shutil.rmtree(folder)
            unfinished.write_text("lost")

    for lost in write, lambda: write_json(folder / "file", 1):
        with pytest.raises(FileNotFoundError, match="run/file' can't be written: No"):
            lost()


def test_errors_of_other_files_are_left_alone(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match=r"No such file .*missing\.jpg"),
        atomic_file(tmp_path / "file"),
    ):
        (tmp_path / "missing.jpg").read_bytes()


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        ("", IsADirectoryError, "is a folder. Name a file in it"),
        ("missing/figures.json", FileNotFoundError, "No such file or directory"),
        ("file/figures.json", NotADirectoryError, "Not a directory"),
    ],
)
def test_file_that_cannot_be_written_is_named_before(tmp_path, output, error, message):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(error, match=f"--output='.*{message}"):
        check_writable_file(tmp_path / output, "--output")
    check_writable_file(tmp_path / "figures.json", "--output")
    check_writable_file(tmp_path / "file", "--output")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["exact", "annoy", "hnsw"])
def test_index_is_whole_or_absent(disk, noise, kind):
    if kind == "hnsw":
        pytest.importorskip("faiss")
    fill(disk, leave=100_000)
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(len(noise), 4096)).astype(np.float32)
    index = {
        "exact": search.ExactNeighbors,
        "annoy": search.AnnoyNeighbors,
        "hnsw": search.HNSWNeighbors,
    }[kind]()
    index.build(embeddings)
    assert_refused(
        lambda: search.save_gallery(disk / "index", embeddings, noise, 28, 32, index),
        disk,
        "disk/index'",
    )


def small_embedder():
    keras.utils.set_random_seed(0)
    images = keras.Input((14, 14, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    return keras.Model(images, keras.layers.Dense(64)(x))


@pytest.mark.parametrize("leave", [20_000, 120_000])
def test_exported_model_is_whole_or_absent(disk, leave):
    fill(disk, leave)
    (disk / "serving").mkdir()
    embedder = small_embedder()
    assert_refused(lambda: export(embedder, disk / "serving" / "1"), disk, "serving/1'")


@pytest.mark.slow
def test_report_is_not_half_written(disk, noise):
    (disk / "report").mkdir()
    (disk / "report" / "retrieval.png").write_text("of before")
    fill(disk, leave=8_000)
    embeddings = np.random.default_rng(0).normal(size=(len(noise), 4))

    def write():
        write_report(disk / "report", "A run", embeddings, noise, {"loss": [1.0]}, "")

    assert_refused(write, disk, "report/retrieval.png'")


def test_room_for_resized_images_is_looked_for_before_they_are_read(
    disk, noise, monkeypatch
):
    monkeypatch.setenv("KERAS_DML_CACHE", str(disk))
    monkeypatch.setattr(batches, "_fill", None)
    # 21 images of 229 × 229 pixels, 200 · 256 / 224, of three bytes: 3.30 MB.
    with pytest.raises(OSError, match=r"has 2.1 MB free, and 3.3 MB .*KERAS_DML_CACHE"):
        data.class_balanced_batches(noise, 2, 2, image_size=200, cache="disk")
    assert [file.name for file in disk.rglob("*")] == ["resized_images"]


def test_room_for_resized_images_that_another_took_is_missed_in_one_line(
    disk, noise, monkeypatch
):
    monkeypatch.setenv("KERAS_DML_CACHE", str(disk))
    monkeypatch.setattr(batches, "check_free_space", lambda *arguments: None)
    (disk / "resized_images").mkdir()
    assert_refused(
        lambda: data.class_balanced_batches(noise, 2, 2, image_size=200, cache="disk"),
        disk,
        r"resized_images/\w+.npy'",
    )


@pytest.mark.slow
@pytest.mark.skipif(IS_KERAS_2, reason="Resume needs Keras 3")
def test_training_goes_on_from_the_checkpoint_before_the_disk_was_full(disk, noise):
    images = np.concatenate(list(noise.images(14)))
    rows = data.class_balanced_batches((images, noise.labels), 2, 2)
    folder = disk / "checkpoints"

    def fit(epochs):
        embedder = small_embedder()
        model = keras.Model(
            embedder.input, keras.layers.Dense(5)(embedder.output), name="model"
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.01), loss)
        resume = Resume(folder, rows, minutes=1000)
        model.fit(rows, epochs=epochs, verbose=0, callbacks=[resume])

    fit(1)
    fill(disk, leave=100_000)
    assert_refused(lambda: fit(2), disk, r"checkpoints/step-\d+'")
    (disk / "filling").unlink()
    fit(2)
    assert len(list(folder.glob("step-*"))) == 2
