import json
import pathlib

import keras
import numpy as np
import pytest

from keras_dml import losses
from keras_dml._ops import IS_KERAS_2
from keras_dml.models import CrossBatchMemory
from keras_dml.optimizers import SGD
from tests import fork_server
from tests.losses.peer import metric_learning
from tests.losses.peer import pytorch

pytestmark = pytest.mark.skipif(IS_KERAS_2, reason="the memory needs Keras 3")

PROGRAM = pathlib.Path(__file__).with_name("remember_on_two_cpus.py")
OPTIONS = {"batch_size": 12, "shuffle": False, "verbose": 0}


def embedder():
    """A linear map, always from the same weights."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(5)(inputs))


def compiled(loss, memory_size=40):
    model = CrossBatchMemory(embedder(), memory_size)
    model.compile(SGD(0.01, momentum=0.9), loss)
    return model


def data(rows=60):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, rows)
    points = rng.normal(size=(5, 6))
    return (points[labels] + rng.normal(size=(rows, 6))).astype("float32"), labels


def as_numpy(variable):
    return keras.ops.convert_to_numpy(variable)


def unsquared():
    return metric_learning("distances").LpDistance(normalize_embeddings=False)


def peers(name):
    """A loss of ours, the peer's and, or None, the peer's miner."""
    theirs, miners = metric_learning("losses"), metric_learning("miners")
    mean = metric_learning("reducers").MeanReducer()
    if name == "circle":
        loss = theirs.CircleLoss(0.4, 8, reducer=mean)
        return losses.Circle(0.4, 8), loss, None
    if name == "supervised contrastive":
        return losses.SupervisedContrastive(), theirs.SupConLoss(), None
    if name == "multi-similarity":
        ours = losses.MultiSimilarity(
            epsilon=9.0
        )  # all pairs, as the peer without a miner
        return ours, theirs.MultiSimilarityLoss(), None
    if name == "mined circle":
        ours = losses.Circle(0.4, 8, miner=losses.MultiSimilarityMiner(0.1))
        loss = theirs.CircleLoss(0.4, 8)
        return ours, loss, miners.MultiSimilarityMiner(0.1)
    assert name == "triplet hard"
    loss = theirs.TripletMarginLoss(0.2, distance=unsquared(), reducer=mean)
    return losses.TripletHard(), loss, miners.BatchHardMiner(distance=unsquared())


@pytest.mark.parametrize(
    "name",
    [
        "circle",
        "supervised contrastive",
        "multi-similarity",
        "mined circle",
        "triplet hard",
    ],
)
def test_trains_as_the_peer_does(name):
    torch = pytorch()

    ours, loss, miner = peers(name)
    model = CrossBatchMemory(embedder(), 40)
    model.compile(keras.optimizers.SGD(0.01), ours)
    start = [
        torch.tensor(as_numpy(weight), dtype=torch.float64, requires_grad=True)
        for weight in model.embedder.weights
    ]
    x, labels = data()
    labels = np.tile(np.repeat(np.arange(4), 3), 5)  # Each image has a positive.
    history = model.fit(x, labels, epochs=2, **OPTIONS).history["loss"]

    memory = metric_learning("losses").CrossBatchMemory(loss, 5, 40, miner)
    optimizer = torch.optim.SGD(start, 0.01)
    values = []
    for step in range(10):
        batch = slice(12 * (step % 5), 12 * (step % 5) + 12)
        y = torch.tensor(x[batch], dtype=torch.float64) @ start[0] + start[1]
        value = memory(y, torch.tensor(labels[batch]))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    np.testing.assert_allclose(history, np.reshape(values, (2, 5)).mean(1), 1e-4)
    for weight, other in zip(model.embedder.weights, start, strict=True):
        np.testing.assert_allclose(as_numpy(weight), other.detach().numpy(), 1e-3, 1e-5)
    remembered = memory.embedding_memory.numpy()
    np.testing.assert_allclose(as_numpy(model.memory), remembered, 1e-3, 1e-4)
    np.testing.assert_array_equal(
        as_numpy(model.memory_labels), memory.label_memory.numpy()
    )
    assert as_numpy(model.written).tolist() == [memory.queue_idx, 40]


def test_first_batch_costs_what_it_costs_without_a_memory():
    x, labels = data(12)
    model = compiled(losses.TripletHard())
    plain = embedder()
    plain.compile("sgd", losses.TripletHard())
    expected = plain.evaluate(x, labels, verbose=0)
    assert model.evaluate(x, labels, verbose=0) == pytest.approx(expected, rel=1e-5)
    found = model.train_on_batch(x, labels)
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("label", [np.nan, 0.5])
def test_label_that_is_no_whole_number_costs_nan(label):
    x, labels = data(12)
    labels = labels.astype("float32")
    model = compiled(losses.Contrastive())
    assert np.isfinite(float(model.train_on_batch(x, labels)))
    labels[3] = label
    model = compiled(losses.Contrastive())
    assert np.isnan(float(model.train_on_batch(x, labels)))


def test_prediction_gives_embeddings_and_leaves_the_memory_alone():
    x, labels = data()
    model = compiled(losses.Contrastive())
    model.fit(x, labels, **OPTIONS)
    before = [as_numpy(weight) for weight in model.weights]
    predicted = model.predict(x, verbose=0)
    np.testing.assert_allclose(predicted, model.embedder.predict(x, verbose=0))
    model.evaluate(x, labels, verbose=0)
    for weight, other in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(as_numpy(weight), other)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["model", "weights"])
def test_goes_on_from_a_file_as_if_never_stopped(way, tmp_path):
    x, labels = data()
    loss = losses.Contrastive(miner=losses.MultiSimilarityMiner(0.2))
    model, steady = compiled(loss), compiled(loss)
    steady.fit(x, labels, epochs=3, **OPTIONS)
    model.fit(x, labels, epochs=2, **OPTIONS)
    if way == "model":
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert loaded.memory_size == 40
        assert loaded.loss.miner.epsilon == 0.2
    else:
        model.save_weights(tmp_path / "all.weights.h5")
        loaded = compiled(loss)
        loaded.optimizer.build(loaded.trainable_variables)
        loaded.load_weights(tmp_path / "all.weights.h5")
        for variable, value in zip(
            loaded.optimizer.variables, model.optimizer.variables, strict=True
        ):
            variable.assign(value)
    loaded.fit(x, labels, epochs=1, **OPTIONS)
    assert as_numpy(steady.written).tolist() == [20, 40]
    for weight, other in zip(loaded.weights, steady.weights, strict=True):
        np.testing.assert_allclose(as_numpy(weight), as_numpy(other), 1e-5, 1e-6)


def test_labels_beyond_float32_are_told_apart():
    x, labels = data()
    found = []
    for shift in (0, 2**25):
        model = compiled(losses.Contrastive())
        found.append(model.fit(x, labels + shift, **OPTIONS).history["loss"])
    np.testing.assert_allclose(*found)


def test_regularizers_of_the_embedder_count():
    x, labels = data(12)
    values = []
    for regularizer in (None, keras.regularizers.L2(0.5)):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        dense = keras.layers.Dense(5, kernel_regularizer=regularizer)
        model = CrossBatchMemory(keras.Model(inputs, dense(inputs)), 40)
        model.compile("sgd", losses.Contrastive())
        penalty = 0.5 * np.sum(np.square(as_numpy(dense.kernel)))
        values.append(float(model.train_on_batch(x, labels)))
    assert values[1] - values[0] == pytest.approx(penalty, rel=1e-4)


def test_half_precision_is_remembered_as_float32():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = compiled(losses.Contrastive())
    finally:
        keras.config.set_dtype_policy(before)
    x, labels = data()
    assert np.isfinite(model.fit(x, labels, **OPTIONS).history["loss"]).all()
    assert as_numpy(model.memory).dtype == np.float32


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="MirroredStrategy is TensorFlow's"
)
def test_two_replicas_equal_one_device():
    finished = fork_server.run_file(PROGRAM)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found["replicas"] == 2
    assert found["moved"] > 1e-3
    assert found["apart"] < 1e-5
    assert found["losses apart"] < 1e-5
    assert found["written"] == [16, 20]


class TestWrongUse:
    @pytest.mark.parametrize("size", [0, 2.5, True])
    def test_size(self, size):
        with pytest.raises(ValueError, match=r"^memory_size must be an integer .*got"):
            CrossBatchMemory(embedder(), size)

    def test_batch_larger_than_the_memory(self):
        x, labels = data(12)
        model = compiled(losses.Contrastive(), memory_size=8)
        with pytest.raises(Exception, match="memory_size must be at least"):
            model.fit(x, labels, **OPTIONS)

    @pytest.mark.parametrize("loss", ["mse", losses.ArcFace()])
    def test_loss_on_other_than_pairs(self, loss):
        with pytest.raises(ValueError, match="must be one on pairs, such as"):
            compiled(loss)

    @pytest.mark.parametrize("name", ["NPairs", "LiftedStructure"])
    def test_loss_within_the_batch(self, name):
        with pytest.raises(ValueError, match=f"^{name} compares .* of a batch alone"):
            compiled(getattr(losses, name)())

    def test_loss_weights(self):
        model = CrossBatchMemory(embedder())
        with pytest.raises(ValueError, match=r"^loss_weights must be None"):
            model.compile("sgd", losses.Contrastive(), loss_weights=2.0)

    def test_sample_weights(self):
        x, labels = data(12)
        model = compiled(losses.Contrastive())
        with pytest.raises(ValueError, match="no sample_weight"):
            model.fit(x, labels, sample_weight=np.ones(12), **OPTIONS)

    @pytest.mark.skipif(
        keras.backend.backend() != "tensorflow",
        reason="Keras's own trainers on JAX and PyTorch fail before",
    )
    def test_no_labels(self):
        x, _ = data(12)
        with pytest.raises(ValueError, match="needs labels to train on"):
            compiled(losses.Contrastive()).fit(x, **OPTIONS)
