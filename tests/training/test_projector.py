import importlib
import json
import urllib.parse

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.plugins import base_plugin
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client

import keras_dml
from keras_dml.data import ImageDataset
from keras_dml.training import write_projector

module = importlib.import_module("keras_dml.training.projector")


def colored(folder, count, name="a class"):
    """An ImageDataset of one-colored images, red as their row times ten."""
    paths = [str(folder / f"{row} of tab\t.png") for row in range(count)]
    for row, path in enumerate(paths):
        Image.new("RGB", (9, 30), (10 * row, 0, 0)).save(path)
    return ImageDataset(paths, np.arange(count) % 2, (name, "other"))


def shown_by_tensorboard(folder):
    """What TensorBoard's projector serves: (embeddings, table, thumbnails)."""
    context = base_plugin.TBContext(logdir=str(folder), multiplexer=None)
    routes = ProjectorPlugin(context).get_plugin_apps()

    def get(route, **query):
        client = Client(routes[f"/{route}"])
        response = client.get(f"/?{urllib.parse.urlencode(query)}")
        assert response.status_code == 200, response.get_data()
        return response.get_data()

    (run,) = json.loads(get("runs"))
    (info,) = json.loads(get("info", run=run))["embeddings"]
    of = {"run": run, "name": info["tensorName"]}
    floats = np.frombuffer(get("tensor", **of), np.float32)
    table = get("metadata", **of).decode().splitlines()
    sprite = tf.io.decode_png(get("sprite_image", **of)).numpy()
    side, _ = info["sprite"]["singleImageDim"]
    return floats.reshape(info["tensorShape"]), table, sprite, side


def test_tensorboard_shows_each_image_at_its_embedding(tmp_path):
    dataset = colored(tmp_path, 5)
    embeddings = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    write_projector(tmp_path / "logs", embeddings, dataset)
    served, table, sprite, side = shown_by_tensorboard(tmp_path / "logs")
    np.testing.assert_allclose(served, embeddings, rtol=5e-4)
    assert table[0] == "class\tfile"
    for row in range(5):
        name = "other" if row % 2 else "a class"
        assert table[row + 1].split("\t")[0] == name
        assert table[row + 1].split("\t")[1].endswith(f"{row} of tab .png")
        # TensorBoard finds image 3 of three columns at the start of the second row.
        top, left = side * (row // 3), side * (row % 3)
        image = sprite[top : top + side, left : left + side]
        assert (np.abs(image.astype(int) - (10 * row, 0, 0)) <= 1).all()
    assert (sprite[side : 2 * side, 2 * side :] == 0).all()


def test_of_many_images_some_are_drawn_by_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 4)
    dataset = colored(tmp_path, 20)
    embeddings = np.arange(20.0)[:, None].repeat(2, 1) + 1
    shown = []
    for seed in (0, 0, 1):
        write_projector(tmp_path / "logs", embeddings, dataset, seed)
        served, table, sprite, side = shown_by_tensorboard(tmp_path / "logs")
        rows = served[:, 0].astype(int) - 1
        assert len(set(rows)) == 4
        assert [int(line.split("/")[-1].split()[0]) for line in table[1:]] == [*rows]
        for place, row in enumerate(rows):
            pixel = sprite[side * (place // 2), side * (place % 2), 0]
            assert pixel == pytest.approx(10 * row, abs=1)
        shown.append([*rows])
    assert shown[0] == shown[1] != shown[2]


def test_wrong_arguments_write_nothing(tmp_path):
    dataset = colored(tmp_path, 5)
    with pytest.raises(ValueError, match="one row for each of the 5 images; got 4"):
        write_projector(tmp_path / "logs", np.ones((4, 2)), dataset)
    with pytest.raises(ValueError, match="seed"):
        write_projector(tmp_path / "logs", np.ones((5, 2)), dataset, seed=-1)
    with pytest.raises(ValueError, match="must be an ImageDataset; got None"):
        write_projector(tmp_path / "logs", np.ones((5, 2)), None)
    (tmp_path / dataset.paths[2]).write_bytes(b"no image")
    with pytest.raises(tf.errors.InvalidArgumentError, match="2 of tab"):
        write_projector(tmp_path / "logs", np.ones((5, 2)), dataset)
    assert not (tmp_path / "logs").exists()
    assert keras_dml.training.write_projector is write_projector
