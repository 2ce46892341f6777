"""The configs of the paper's data sets against the paper's table, and one larger."""

import importlib
import json

import keras
import numpy as np
import pytest

import keras_dml
from experiments._lib.build import PAPER_LOADERS
from experiments._lib.build import build_models
from experiments._lib.build import load_data
from experiments._lib.check_config import check_config
from tests.data.miniature_archives import use_counts
from tests.data.miniature_archives import write_in_shop
from tests.experiments.programs import run_with_counts

RECIPES = {
    # learning rate, classes × images per class, the K of Recall@K
    "cub200": (0.001, 3, 25, (1, 2, 4, 8)),
    "cars196": (0.01, 3, 25, (1, 2, 4, 8)),
    "stanford_online_products": (0.01, 15, 5, (1, 10, 100, 1000)),
    "in_shop": (0.01, 15, 5, (1, 10, 20, 30, 40, 50)),
}

PUBLISHED = {
    # Percent for ResNet-50 and 2,048 dimensions: Recall@K, and R@1 of binary codes
    "cub200": (("65.36", "76.76", "85.42", "91.51"), "63.67"),
    "cars196": (("89.50", "94.18", "96.84", "98.41"), "89.29"),
    "stanford_online_products": (("79.55", "91.54", "96.66", "98.95"), "78.03"),
    "in_shop": (("89.35", "97.81", "98.61", "98.87", "99.05", "99.13"), "88.76"),
}


def config_of(name):
    return importlib.import_module(f"experiments.configs.{name}").get_config()


def test_every_data_set_of_the_paper_has_a_config():
    assert list(RECIPES) == list(PAPER_LOADERS)
    for name in RECIPES:
        assert config_of(name).data.loader == name


@pytest.mark.parametrize("name", RECIPES)
def test_config_holds_the_papers_recipe(name):
    config = config_of(name)
    check_config(config)
    learning_rate, classes, images_per_class, ks = RECIPES[name]
    assert config.learning_rate == learning_rate
    assert (config.classes, config.images_per_class) == (classes, images_per_class)
    assert config.classes * config.images_per_class == 75
    assert config.ks == ks
    assert config.replacement
    assert config.epochs == 30
    assert config.decay_at == (0.5,)
    assert (config.momentum, config.l2) == (0.9, 1e-4)
    assert config.temperature == 0.05
    assert (config.resize, config.image_size, config.flip) == (256, 224, True)
    assert (config.trunk, config.weights, config.dim) == ("resnet50", "imagenet", 2048)
    assert config.validation_classes == 0


@pytest.mark.parametrize("name", RECIPES)
def test_docstring_has_the_command_the_published_figures_and_that_they_are_not_ours(
    name,
):
    text = importlib.import_module(f"experiments.configs.{name}").__doc__
    assert f"--config=experiments/configs/{name}.py" in text
    assert "We have not reproduced these figures." in text
    recalls, binary = PUBLISHED[name]
    ks = config_of(name).ks
    row = ", ".join(f"R@{k} {recall}" for k, recall in zip(ks, recalls, strict=True))
    assert f"    float   {row}\n    binary  R@1 {binary}\n" in text


@pytest.mark.slow
@pytest.mark.parametrize("trunk", ["googlenet", "bn_inception"])
def test_other_rows_of_the_papers_table_are_two_overrides(trunk):
    config = config_of("cub200")
    config.update(trunk=trunk, dim=64, weights="")
    check_config(config)
    built, embedder, model = build_models(config, num_classes=100)
    assert built.name == trunk
    assert embedder.output_shape == (None, 64)
    assert model.output_shape == (None, 100)


@pytest.mark.slow
def test_glyph_strings_are_as_many_as_the_config_asks_for():
    config = config_of("glyph_strings")
    assert config.data.classes >= 50_000
    config.data.classes = 20
    train, test = load_data(config, data_dir=None)
    assert np.bincount(train.labels).tolist() == [config.data.images_per_class] * 20
    assert np.bincount(test.labels).tolist() == [4] * 1000


@pytest.mark.slow
def test_one_epoch_trains_and_queries_search_the_gallery(tmp_path):
    counts = write_in_shop(
        tmp_path / "shop", train=(6,) * 16, query=(3,) * 8, gallery=(2,) * 8
    )
    run = tmp_path / "run"
    finished = run_with_counts(
        "in_shop",
        counts,
        "train",
        "--config=experiments/configs/in_shop.py",
        f"--data_dir={tmp_path / 'shop'}",
        f"--output_dir={run}",
        "--config.trunk=conv4",
        "--config.weights=",
        "--config.image_size=28",
        "--config.resize=32",
        "--config.dim=20",
        "--config.epochs=1",
        "--config.ks=(1,2)",
        "--config.index=hnsw",
    )
    assert finished.returncode == 0, finished.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["images"], metrics["classes"]) == (40, 8)

    with pytest.MonkeyPatch.context() as patch:
        use_counts(patch, "in_shop", counts)
        _, test = keras_dml.data.datasets.in_shop(tmp_path / "shop")
    embedder = keras.models.load_model(run / "embedding.keras")
    images = np.concatenate(list(test.images(28, 32).as_numpy_iterator()))
    embeddings = embedder.predict(images, verbose=0)
    cosines = embeddings[test.is_query] @ embeddings[~test.is_query].T
    nearest = test.labels[~test.is_query][cosines.argmax(axis=1)]
    assert metrics["float"]["recall@1"] == pytest.approx(
        np.mean(nearest == test.labels[test.is_query])
    )
