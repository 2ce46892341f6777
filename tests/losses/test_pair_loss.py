import json
import pathlib

import keras
import numpy as np
import pytest

from keras_dml._ops import IS_KERAS_2
from keras_dml._ops import ops
from keras_dml.losses import Contrastive
from keras_dml.losses import CosFace
from keras_dml.losses import PairLoss
from keras_dml.losses import ProxyLoss
from tests import fork_server

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = pathlib.Path(__file__).with_name("compare_two_replicas.py")


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="MirroredStrategy is TensorFlow's"
)
@pytest.mark.skipif(
    IS_KERAS_2, reason="Keras 2 takes no averaging loss on replicas outside compile"
)
def test_two_replicas_equal_one_device_for_every_loss():
    finished = fork_server.run_file(PROGRAM)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found["replicas"] == 2
    assert len(found["losses"]) >= 12
    for name, apart in found["losses"].items():
        assert apart["value apart"] <= 1e-6 * apart["value"], name
        assert apart["gradient"] > 1e-2, name
        assert apart["gradient apart"] <= 1e-6 * max(apart["gradient"], 1), name
    for name, trained in found["trained"].items():
        assert trained["moved"] > 1e-3, name
        assert trained["apart"] < 1e-5, name
        # Keras before 3.10 logs the loss of one replica.
        if tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 10):
            assert trained["relative losses apart"] < 1e-5, name


@pytest.mark.parametrize("floatx", ["float16", "bfloat16"])
def test_half_precision_everywhere_neither_rounds_values_nor_merges_labels(floatx):
    if IS_KERAS_2 and floatx == "bfloat16":
        pytest.skip("Keras 2 has no floatx of bfloat16")
    before = keras.backend.floatx()
    keras.backend.set_floatx(floatx)
    try:
        pairs, proxies = Contrastive(), CosFace()
    finally:
        keras.backend.set_floatx(before)
    # 2,048 and 2,049 are one number in both.
    labels = np.array([2048, 2049])
    x = np.array([[0.0, 0.0], [0.3, 0.0]], np.float32)
    assert float(pairs(labels, x)) == pytest.approx(0.7**2 / 2, rel=1e-6)
    cosines = np.zeros((2, 2050), np.float32)
    cosines[0, 2048] = cosines[1, 2049] = 1
    expected = np.log1p(2049 * np.exp(-64 * 0.65))
    assert float(proxies(labels, cosines)) == pytest.approx(expected, abs=1e-6)


def test_reductions_are_those_of_keras():
    labels = np.array([0, 0, 1])
    x = np.array([[0.0], [2.0], [9.0]], np.float32)
    for reduction, value in (("sum_over_batch_size", 2), ("sum", 6), (None, [2, 2, 2])):
        found = Contrastive(reduction=reduction)(labels, x)
        np.testing.assert_allclose(ops.convert_to_numpy(found), value)
    with pytest.raises(ValueError, match=r"[Rr]eduction"):
        Contrastive(reduction="average")


@pytest.mark.parametrize("label", [np.nan, 0.5])
def test_label_that_is_no_whole_number_costs_nan(label):
    embeddings = np.eye(4, dtype="float32")
    labels = np.array([0.0, 0.0, 1.0, 2.0], "float32")
    assert np.isfinite(float(Contrastive()(labels, embeddings)))
    labels[3] = label
    assert np.isnan(float(Contrastive()(labels, embeddings)))


@pytest.mark.parametrize("base", [PairLoss, ProxyLoss])
def test_base_class_says_what_to_define(base):
    with pytest.raises(NotImplementedError, match=f"{base.__name__} does not define"):
        base()(np.array([0, 0, 1]), np.eye(3, dtype="float32"))


@pytest.mark.parametrize("loss", [Contrastive(), CosFace()])
def test_empty_batch_is_refused(loss):
    with pytest.raises(ValueError, match="takes a batch of one image or more; got no"):
        loss(np.zeros(0, "int32"), np.zeros((0, 4), "float32"))


@pytest.mark.parametrize(
    ("miner", "got"),
    [
        (lambda p, n, e, r: p, "got a "),
        (lambda p, n, e, r: None, "got a NoneType"),
        (lambda p, n, e, r: (p,), r"got 1 of the shapes \[\(4, 4\)\]"),
        (lambda p, n, e, r: (p, n[:2]), r"got 2 of the shapes .*\(2, 4\)"),
        (lambda p, n, e, r: (p, 1), r"got 2 of the shapes .*\(\)"),
        # The indices of pytorch-metric-learning's miners.
        (lambda p, n, e, r: (np.zeros(3, int),) * 4, r"got 4 of .*\(3,\)"),
    ],
    ids=["one mask", "nothing", "one in a tuple", "shape", "number", "indices"],
)
def test_miner_that_gives_no_two_masks_is_refused(miner, got):
    message = r"miner must return two masks .*of the shape \(4, 4\) .*" + got
    with pytest.raises(ValueError, match=message):
        Contrastive(miner=miner)(np.array([0, 0, 1, 1]), np.eye(4, dtype="float32"))


def test_miner_may_give_masks_in_batches_of_unknown_size():
    def far(positives, negatives, embeddings, references):
        return positives, ops.logical_and(negatives, positives)

    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.compile("sgd", Contrastive(miner=far))
    x, labels = np.ones((6, 3), "float32"), np.arange(6) % 2
    assert model.evaluate(x, labels, batch_size=4, verbose=0) == 0
