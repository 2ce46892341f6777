"""The examples in docstrings, run."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest
from PIL import Image

import keras_dml

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = [
        module.name
        for module in pkgutil.walk_packages(keras_dml.__path__, "keras_dml.")
    ]
    for name in ("keras_dml", *names):
        module = importlib.import_module(name)
        for test in finder.find(module, name, module=module, globs={}):
            if test.examples:
                yield pytest.param(module, test, id=test.name)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the examples may use beside the public names of their own room."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)

    def images(split):
        paths, labels = [], np.repeat(np.arange(4), 6)
        for row, label in enumerate(labels):
            pixels = 60 * label + rng.integers(0, 60, (28, 28, 3))
            paths.append(str(folder / f"{split}_{row}.png"))
            Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
        classes = [f"{split} class {label}" for label in range(4)]
        return keras_dml.data.ImageDataset(paths, labels, classes)

    keras.utils.set_random_seed(0)
    trunk = keras_dml.models.trunk("conv4", input_shape=(28, 28, 3))
    embedder = keras_dml.models.embedding_model(trunk, dim=16)
    logits = keras_dml.layers.NormalizedSoftmax(4)(embedder.output)
    model = keras.Model(embedder.input, logits)
    model.compile(
        keras_dml.optimizers.SGD(0.01, momentum=0.9, l2=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return {
        "np": np,
        "keras": keras,
        "keras_dml": keras_dml,
        "train": images("train"),
        "test": images("test"),
        "trunk": trunk,
        "embedder": embedder,
        "model": model,
    }


@pytest.mark.parametrize(("module", "test"), list(_examples()))
def test_example_does_what_it_says(module, test, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    room = getattr(keras_dml, module.__name__.split(".")[1])
    names_of_room = getattr(room, "__all__", ())  # _checks.py and its like have none
    public = {name: getattr(room, name) for name in names_of_room}
    test.globs = {**vars(module), **public, **names}
    report = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
