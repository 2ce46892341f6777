import os
import pathlib

import hypothesis
import numpy as np
import pytest
from PIL import Image

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Ray's workers are nice by 15: beside other tests they would get next to no processor.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112

# The files that take longest, in this order, so that no process is left with one of
# them when the others have ended.
_FIRST = (
    *(
        "test_documentation.py",
        "experiments/test_train.py",
        "models/trunks/test_hub.py",
    ),
    *("models/test_trunk.py", "models/test_classifier.py", "optimizers/test_sgd.py"),
    *("experiments/test_compare_losses.py", "experiments/test_ablation.py"),
    *("experiments/test_configs.py", "data/datasets/test_glyph_strings.py"),
)


def pytest_collection_modifyitems(items):
    folder = pathlib.Path(__file__).parent
    places = {folder / name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(_FIRST)))


@pytest.fixture(autouse=True, scope="session")
def cache_of_this_session(tmp_path_factory):
    """Keeps what tests draw and unpack out of the user's cache, and shares it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # All processes of the session see it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_DML_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(scope="session")
def noise(tmp_path_factory):
    """An ImageDataset of 21 small noisy PNG files: 5 classes of 2, 3, 4, 5 and 7."""
    from keras_dml.data import ImageDataset

    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), (2, 3, 4, 5, 7))
    paths = []
    for row, label in enumerate(labels):
        height, width = rng.integers(14, 31, 2)
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        paths.append(str(folder / f"{label}_{row}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return ImageDataset(paths, labels, tuple("abcde"))
