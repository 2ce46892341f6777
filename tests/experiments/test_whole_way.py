"""From images to a search and a server, as a user goes, one command after the other."""

import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_dml import evaluation
from keras_dml import search
from keras_dml.data import ImageDataset
from keras_dml.data.datasets import glyphs
from tests.experiments.programs import run_program
from tests.experiments.served_page import chromium
from tests.experiments.served_page import needs_chromium
from tests.experiments.served_page import served_page
from tests.experiments.served_page import shown_classes
from tests.serving.other_formats import Interpreted
from tests.serving.other_formats import Session
from tests.serving.other_formats import assert_same

sync_api = pytest.importorskip("playwright.sync_api", reason="drives Chromium")
for package in ("lancedb", "starlette", "ai_edge_litert", "onnxruntime", "tf2onnx"):
    pytest.importorskip(package)

pytestmark = [pytest.mark.slow, needs_chromium]

PER_CLASS = 10


def run(name, *arguments):
    finished = run_program(name, *arguments)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run on glyphs, too short to be good."""
    folder = tmp_path_factory.mktemp("runs") / "glyphs"
    config = "--config=experiments/configs/glyphs.py"
    run("train", config, "--config.epochs=2", f"--output_dir={folder}")
    return folder


@pytest.fixture
def photos(tmp_path):
    """Images of eight test classes, one folder a class."""
    _, test = glyphs()
    for label in range(8):
        folder = tmp_path / "photos" / f"class {label}"
        folder.mkdir(parents=True)
        for path in test.paths[test.labels == label][:PER_CLASS]:
            shutil.copy(path, folder)
    return tmp_path / "photos"


def test_photos_are_trained_on_indexed_found_deleted_and_served_alike(
    trained, photos, tmp_path
):
    index = tmp_path / "photos.index"

    def update():
        where = f"--data_dir={photos}", f"--output_dir={index}", "--kind=lance"
        run("index", f"--run={trained}", *where)
        return search.load_gallery(index)

    gallery = update()
    assert len(gallery) == 8 * PER_CLASS
    embedder = keras.saving.load_model(trained / "embedding.keras")

    new = tmp_path / "new.png"
    _, test = glyphs()
    shutil.copy(test.paths[test.labels == 20][0], new)
    added = photos / "class 20" / "new.png"
    with (
        sync_api.sync_playwright() as playwright,
        chromium(playwright) as browser,
        served_page(f"--run={trained}", f"--index={index}", "--k=5") as address,
    ):
        page = browser.new_page()
        page.set_default_timeout(60_000)

        def upload(image):
            page.goto(address)
            page.set_input_files("#file", image)
            classes = shown_classes(page)
            scores = page.locator("#found .score").all_inner_texts()
            return classes, [float(score) for score in scores]

        known = sorted((photos / "class 3").iterdir())[0]
        classes, scores = upload(known)
        assert (classes[0], scores[0]) == ("class 3", pytest.approx(1, abs=1e-3))
        classes, scores = upload(new)
        assert "class 20" not in classes
        assert scores[0] < 0.999

        added.parent.mkdir()
        shutil.copy(new, added)
        gallery = update()
        assert len(gallery) == 8 * PER_CLASS + 1
        classes, scores = upload(new)
        assert (classes[0], scores[0]) == ("class 20", pytest.approx(1, abs=1e-3))
        (row,) = gallery.search(embedder, [new], k=1).names
        assert [pathlib.Path(name) for name in row] == [added]

        added.unlink()
        gallery = update()
        assert len(gallery) == 8 * PER_CLASS
        classes, scores = upload(new)
        assert "class 20" not in classes

    paths = sorted(map(str, photos.glob("*/*.png")))
    images = ImageDataset(paths, np.zeros(len(paths), int), ("",))
    embeddings = evaluation.embed(embedder, images, 32, verbose=0)
    kept = np.array([gallery.embedding(path) for path in paths])
    np.testing.assert_allclose(kept, embeddings, atol=1e-5)

    pixels = np.concatenate(list(images.images(28, 32).as_numpy_iterator()))
    pixels = pixels.astype(np.float32)
    for format_name in ("litert", "onnx"):
        run("export", f"--run={trained}", f"--format={format_name}")
    exported = trained / "serving"
    assert_same(Interpreted(exported / "embedding.tflite")(pixels), embeddings)
    assert_same(Session(exported / "embedding.onnx")(pixels), embeddings)

    encoded = {
        f"encoded{row}": np.frombuffer(pathlib.Path(path).read_bytes(), np.uint8)
        for row, path in enumerate(paths)
    }
    np.savez(tmp_path / "inputs.npz", images=pixels, **encoded)
    program = pathlib.Path(__file__).parents[1] / "serving" / "serve_without_keras.py"
    subprocess.run(
        [sys.executable, program, exported / "1", "inputs.npz", "outputs.npz"],
        cwd=tmp_path,
        check=True,
        timeout=300,
    )
    with np.load(tmp_path / "outputs.npz") as outputs:
        for kind in ("c/encoded", "c/images"):
            served = {name: outputs[f"{kind}/{name}"] for name in ("embedding", "code")}
            assert_same(served, embeddings)
        assert outputs["c/encoded/valid"].all()
