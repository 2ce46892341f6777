"""A small run with a gallery, for tests of the search page."""

import json

import keras
import numpy as np
from PIL import Image

from keras_dml.data import gallery_folder
from keras_dml.evaluation import embed
from keras_dml.evaluation import retrieval_metrics
from keras_dml.search import save_gallery

CLASSES = ("black", "<b>white</b>", "red", "blue")
_COLORS = ((0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255))


def write_run(root):
    """Writes root/photos, one color a class, and root/run, whose model sees colors.

    The embedding is the mean color, so that neighbors are known: images of a class
    differ in brightness only.
    """
    rng = np.random.default_rng(0)
    for name, color in zip(CLASSES, _COLORS, strict=True):
        folder = root / "photos" / name.replace("/", "∕")
        folder.mkdir(parents=True)
        for number in range(5):
            pixels = np.array(color) * 0.8 + rng.uniform(10, 40, (24, 30, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    run = root / "run"
    run.mkdir()
    pixels = keras.Input((14, 14, 3))
    x = keras.layers.Rescaling(1 / 255, -0.3)(pixels)
    embedder = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x))
    embedder.save(run / "embedding.keras")
    (run / "config.json").write_text('{"resize": 16}')
    images = gallery_folder(root / "photos")
    embeddings = embed(embedder, images, 16, verbose=0)
    save_gallery(run / "index", embeddings, images, 14, 16)
    metrics = retrieval_metrics(embeddings, images.labels, ks=(1, 2))
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "report").mkdir()
    Image.new("RGB", (20, 10)).save(run / "report" / "curves.png")
    return run
