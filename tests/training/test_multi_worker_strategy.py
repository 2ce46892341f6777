import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dml._ops import IS_KERAS_2
from keras_dml._worker_parts import WorkerPart
from keras_dml._worker_parts import make_worker_part
from keras_dml._worker_parts import rows_as_text
from keras_dml.data import class_balanced_batches
from keras_dml.training import Resume
from keras_dml.training import _workers
from keras_dml.training import from_chief
from keras_dml.training import is_chief
from keras_dml.training import lost_worker
from keras_dml.training import multi_worker_strategy
from keras_dml.training import wait_for_chief
from tests import fork_server
from tests.training.fit_on_workers import BATCH
from tests.training.fit_on_workers import MODELS
from tests.training.fit_on_workers import fit

PROGRAM = pathlib.Path(__file__).with_name("fit_on_workers.py")
CLUSTER = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}

pytestmark = pytest.mark.skipif(IS_KERAS_2, reason="it needs Keras 3")


def results(folder, *arguments):
    finished = fork_server.run_file(PROGRAM, folder, *arguments)
    assert finished.returncode == 0, finished.stderr
    return {file.stem: dict(np.load(file)) for file in folder.glob("*.npz")}


def assert_close(found, expected):
    for name in ("losses", "epochs", "recall", "weights", "embeddings"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_two_workers_train_as_one_device_does_and_read_half_each(tmp_path):
    found = results(tmp_path, "full_softmax")
    kind = "full_softmax"
    alone = fit(tf.distribute.get_strategy(), kind, batch_norm=False)
    assert alone["loaded"] == [96, 96 + 2]  # the first and last row when checked
    for worker in "01":
        of_worker = {
            name.removeprefix(f"{kind}/"): value
            for name, value in found[worker].items()
        }
        assert_close(of_worker, alone)
        # A batch more to build the model by, and batches are read ahead.
        assert 96 / 2 <= of_worker["loaded"][0] <= 96 / 2 + 4 * BATCH / 2
        # Its half of five whole batches of 20; those two rows, of the whole and of it.
        assert of_worker["loaded"][1] == 100 / 2 + 2 + 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_two_workers_train_as_two_replicas_do(kind, trained):
    for worker in "01":
        expected, found = (
            {
                name.removeprefix(f"{kind}/"): value
                for name, value in trained[process].items()
                if name.startswith(f"{kind}/")
            }
            for process in ("mirrored", worker)
        )
        assert_close(found, expected)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return results(tmp_path_factory.mktemp("workers"), ",".join(MODELS), "mirrored")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "TF_CONFIG is not set. Set it on each worker, as {.*}"),
        ("nonsense", "TF_CONFIG must have cluster and task; it is 'nonsense'"),
        ({"cluster": CLUSTER}, "TF_CONFIG must have cluster and task"),
        (
            {"cluster": CLUSTER, "task": {"type": "worker", "index": 2}},
            "TF_CONFIG must have a task that its cluster lists",
        ),
        (
            {"cluster": {**CLUSTER, "ps": ["a:1"]}, "task": {"type": "ps", "index": 0}},
            "TF_CONFIG must list jobs chief and worker alone",
        ),
        *(
            ({"cluster": cluster, "task": {"type": "worker", "index": 0}}, message)
            for cluster, message in [
                ({"worker": "127.0.0.1:1"}, "must list host:port of each worker"),
                ({"worker": ["127.0.0.1"]}, "must list host:port of each worker"),
                ({"worker": [1, 2]}, "must list host:port of each worker"),
                ({"worker": ["a:1", "a:1"]}, "must list each worker once"),
                ({"chief": ["a:1", "a:2"], "worker": ["a:3"]}, "and one chief"),
            ]
        ),
        (
            {"cluster": CLUSTER, "task": {"type": "worker", "index": True}},
            "TF_CONFIG must have a task that its cluster lists",
        ),
    ],
)
def test_wrong_config_is_refused(config, message, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=message):
        multi_worker_strategy()


def test_untested_keras_is_refused(monkeypatch):
    monkeypatch.setattr(keras, "__version__", "3.99.0")
    with pytest.raises(ImportError, match=r"found 3\.99\.0. Use pip install"):
        multi_worker_strategy()


def test_strategy_that_comes_too_late_is_refused(monkeypatch):
    tf.zeros(1)
    config = {"cluster": CLUSTER, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(RuntimeError, match="came too late: TensorFlow has begun"):
        multi_worker_strategy()


def test_copies_in_other_folders_are_the_same_and_other_files_are_not():
    rows = rows_as_text([0, 0], ["/a/0.jpg", "/a/1.jpg"])
    assert rows == rows_as_text(np.array([0, 0]), np.array(["/b/0.jpg", "/b/1.jpg"]))
    assert rows != rows_as_text([0, 0], ["/a/0.jpg", "/a/2.jpg"])
    assert rows != rows_as_text([0, 1], ["/a/0.jpg", "/a/1.jpg"])


def test_workers_with_other_data_are_refused(monkeypatch):
    def gathered(digest):
        return [digest, digest ^ np.uint8(1)]

    monkeypatch.setattr(_workers, "gather_from_workers", gathered)
    with pytest.raises(ValueError, match="worker 1 has other images, labels or"):
        _workers.check_same_on_all("batches")


@pytest.mark.parametrize(
    ("text", "raised"),
    [
        ("REPLACED BY SystemExit: 143", SystemExit),
        ("KeyboardInterrupt", KeyboardInterrupt),
    ],
)
def test_signal_that_tensorflow_swallows_is_heard(text, raised, monkeypatch):
    class Context:
        def get_config_key_value(self, name, milliseconds):
            raise RuntimeError(f"pybind11::error_already_set: {text}")

    monkeypatch.setattr(_workers.context, "context", Context)
    with pytest.raises(raised):
        _workers._wait_for("name")


def test_without_workers_there_is_one_that_is_the_chief():
    assert is_chief()
    assert from_chief({"a": [1, None]}) == {"a": [1, None]}
    wait_for_chief()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            tf.errors.UnavailableError(
                None, None, "reported from /job:worker/task:1: unhealthy"
            ),
            "worker 1 is gone: it ended, was killed, or can't be reached.",
        ),
        (
            tf.errors.InternalError(
                None, None, "Collective ops is aborted by: Socket closed"
            ),
            "another worker is gone: it ended, was killed, or can't be reached.",
        ),
        (tf.errors.InternalError(None, None, "/job:worker/task:1 is odd"), None),
        (ValueError("Collective ops is aborted by"), None),
    ],
)
def test_lost_worker_is_named(error, sentence):
    assert lost_worker(error) == sentence


def test_replicas_of_all_workers_share_each_batch_in_the_order_of_keras():
    batch = np.arange(12).reshape(12, 1)
    parts = [WorkerPart(worker, 2, 4).of(batch)[:, 0] for worker in range(2)]
    # Keras's predict puts the first replica of each worker before all second ones.
    in_turn = [part[start : start + 3] for start in (0, 3) for part in parts]
    assert np.concatenate(in_turn).tolist() == list(range(12))


def test_batch_that_replicas_can_not_share_is_refused():
    data = np.zeros((12, 4), np.float32), np.arange(12) % 3
    batches = class_balanced_batches(data, 3, 1)
    with pytest.raises(ValueError, match=r"batch of 3 images can't be .* 2 replicas"):
        make_worker_part(batches, WorkerPart(0, 2, 2))


def test_workers_that_see_other_checkpoints_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "keras_dml.training.resume.gather_from_workers",
        lambda place: [place, np.array([1, 2])],
    )
    data = np.zeros((12, 4), np.float32), np.arange(12) % 3
    batches = class_balanced_batches(data, 3, 1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    message = r"worker 0 in epoch 1, after 0 batches; worker 1 in epoch 2, after 2 bat"
    with pytest.raises(ValueError, match=message):
        model.fit(batches, verbose=0, callbacks=[Resume(tmp_path, batches)])
