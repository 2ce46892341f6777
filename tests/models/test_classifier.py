import json
import pathlib

import keras
import numpy as np
import pytest

from keras_dml import losses
from keras_dml._ops import IS_KERAS_2
from keras_dml.layers import NormalizedSoftmax
from keras_dml.layers import Proxies
from keras_dml.layers._sampling import drawn_classes
from keras_dml.models import Classifier
from keras_dml.optimizers import SGD
from tests import fork_server

pytestmark = pytest.mark.skipif(IS_KERAS_2, reason="classes are drawn on Keras 3")

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = pathlib.Path(__file__).with_name("sample_on_two_cpus.py")
CLASSES = 40


def embedder(dim=8):
    """A linear map from 6 numbers."""
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(dim)(inputs))


def compiled(model, optimizer=None):
    """The model, to be trained as the README trains one."""
    model.compile(
        optimizer or SGD(0.1, momentum=0.9, l2=1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def classifier(sampled_classes, classes=CLASSES, dim=8):
    """A compiled classifier that starts the same each time."""
    keras.utils.set_random_seed(0)
    softmax = NormalizedSoftmax(classes, 0.1, sampled_classes, seed=1)
    return compiled(Classifier(embedder(dim), softmax))


def data(classes=CLASSES, rows=96):
    """Rows around a point for each class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, rows)
    points = rng.normal(size=(classes, 6))
    return (points[labels] + 0.1 * rng.normal(size=(rows, 6))).astype("float32"), labels


OPTIONS = {"batch_size": 12, "shuffle": False, "verbose": 0}


def as_numpy(variables):
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


@pytest.mark.parametrize("sampled_classes", [None, 1.0])
def test_trains_as_a_plain_model_where_all_classes_are_drawn(sampled_classes):
    x, labels = data()
    model = classifier(sampled_classes)
    start = embedder()
    softmax = NormalizedSoftmax(CLASSES, 0.1)
    plain = compiled(keras.Model(start.input, softmax(start.output)))
    plain.set_weights(as_numpy(model.trainable_variables))
    found = model.fit(x, labels, epochs=3, **OPTIONS).history
    expected = plain.fit(x, labels, epochs=3, **OPTIONS).history
    assert found["accuracy"][-1] > found["accuracy"][0]
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(found[name], expected[name], 1e-4)
    for weight, other in zip(
        as_numpy(model.trainable_variables), plain.get_weights(), strict=True
    ):
        np.testing.assert_allclose(weight, other, 1e-3, 1e-4)


def test_a_tenth_of_the_classes_learns_and_is_evaluated_on_all():
    x, labels = data()
    model = classifier(0.1)
    before = model.evaluate(x, labels, verbose=0)
    model.fit(x, labels, epochs=30, **OPTIONS)
    loss, accuracy = model.evaluate(x, labels, verbose=0)
    assert loss < 0.5 * before[0]
    assert accuracy > 0.8
    logits = model.predict(x, verbose=0)
    assert logits.shape == (96, CLASSES)
    own = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    expected = np.mean(np.log(np.exp(logits.astype(float)).sum(1)) - own)
    np.testing.assert_allclose(loss, expected, 1e-5)
    assert accuracy == pytest.approx(np.mean(logits.argmax(1) == labels))


def test_validation_data_are_measured_on_all_classes():
    x, labels = data()
    model = classifier(3)
    history = model.fit(
        x, labels, validation_data=(x, labels), epochs=2, **OPTIONS
    ).history
    np.testing.assert_allclose(
        [history["val_loss"][-1], history["val_accuracy"][-1]],
        model.evaluate(x, labels, verbose=0),
        1e-6,
    )


def test_sample_weights_weigh_images():
    x, labels = data()
    model, other = classifier(0.2), classifier(0.2)
    weights = (np.arange(96) % 2).astype("float32")
    # Images of weight 0 count as little as if they were not there.
    model.fit(x, labels, sample_weight=weights, epochs=2, **OPTIONS)
    other.fit(
        x + (1 - weights[:, None]), labels, sample_weight=weights, epochs=2, **OPTIONS
    )
    for weight, same in zip(
        as_numpy(model.trainable_variables),
        as_numpy(other.trainable_variables),
        strict=True,
    ):
        np.testing.assert_allclose(weight, same, 1e-4, 1e-5)


@pytest.mark.parametrize(
    "way", [pytest.param("keras file", marks=pytest.mark.slow), "BackupAndRestore"]
)
def test_goes_on_from_a_file_as_if_never_stopped(way, tmp_path):
    x, labels = data()
    model, steady = classifier(0.2), classifier(0.2)
    steady.fit(x, labels, epochs=4, **OPTIONS)
    if way == "keras file":
        model.fit(x, labels, epochs=2, **OPTIONS)
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
        assert type(model) is Classifier
        model.fit(x, labels, epochs=4, initial_epoch=2, **OPTIONS)
    else:
        for epochs in (2, 4):  # The second model finds what the first has reached.
            backup = keras.callbacks.BackupAndRestore(
                tmp_path / "backup", delete_checkpoint=False
            )
            model = classifier(0.2)
            model.fit(x, labels, epochs=epochs, callbacks=[backup], **OPTIONS)
    for weight, expected in zip(
        as_numpy(model.variables), as_numpy(steady.variables), strict=True
    ):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.slow
def test_a_million_classes_are_trained_saved_and_resumed(tmp_path):
    classes = 1_000_000
    x, labels = data(classes, rows=24)
    model, steady = (classifier(500, classes, dim=4) for _ in range(2))
    steady.fit(x, labels, epochs=2, **OPTIONS)
    model.fit(x, labels, **OPTIONS)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.fit(x, labels, epochs=2, initial_epoch=1, **OPTIONS)
    for weight, expected in zip(
        as_numpy(loaded.variables), as_numpy(steady.variables), strict=True
    ):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="sparse gradients are TensorFlow's"
)
def test_rows_of_classes_not_drawn_stay_as_they_are():
    x, labels = data(1000, rows=12)
    model = classifier(20, 1000)
    (before,) = as_numpy([model.softmax.class_weights])
    model.fit(x, labels, epochs=2, **OPTIONS)
    (after,) = as_numpy([model.softmax.class_weights])
    moved = (after != before).any(1)
    assert moved[labels].all()
    assert 20 < moved.sum() <= 12 + 2 * 20
    index = [v.path for v in model.trainable_variables].index(
        model.softmax.class_weights.path
    )
    (velocity,) = as_numpy([model.optimizer.velocities[index]])
    np.testing.assert_array_equal(velocity.any(1), moved)


@pytest.mark.parametrize(
    "policy",
    [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"],
)
def test_mixed_precision_trains_float32_class_weights(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = classifier(0.25)
    finally:
        keras.config.set_dtype_policy(before)
    x, labels = data()
    losses = model.fit(x, labels, epochs=15, **OPTIONS).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    (weights,) = as_numpy([model.softmax.class_weights])
    assert weights.dtype == np.float32
    assert np.isfinite(weights).all()


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="sparse gradients are TensorFlow's"
)
def test_mixed_precision_does_not_round_labels():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = classifier(1, 1000)
    finally:
        keras.config.set_dtype_policy(before)
    labels = np.arange(901, 997, dtype="float32")  # bfloat16 has every fourth
    x = np.random.default_rng(0).normal(size=(96, 6)).astype("float32")
    (start,) = as_numpy([model.softmax.class_weights])
    model.fit(x, labels, **OPTIONS)
    (end,) = as_numpy([model.softmax.class_weights])
    assert (end != start).any(1)[901:997].all()


@pytest.mark.parametrize("wrong", [-1, CLASSES, 0.5])
def test_a_label_that_is_no_class_does_not_train_on_unseen(wrong):
    x, labels = data()
    labels = labels.astype(np.float32 if isinstance(wrong, float) else np.int64)
    labels[5] = wrong
    model = classifier(0.25)
    try:
        (loss,) = model.fit(x, labels, **OPTIONS).history["loss"]
    except Exception as error:
        message = str(error)
        assert f"from 0 to {CLASSES - 1}" in message or "out of range" in message
    else:
        assert np.isnan(loss)
        assert keras.backend.backend() != "tensorflow"


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="Keras's own trainers on JAX and PyTorch fail before",
)
def test_labels_are_needed_in_training():
    x, _ = data()
    with pytest.raises(ValueError, match="needs labels to train on"):
        classifier(0.25).fit(x, **OPTIONS)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="Keras's own trainers on JAX and PyTorch fail before",
)
@pytest.mark.parametrize("batch", [1, 12])
def test_one_hot_labels_are_refused(batch):
    x, labels = data()
    with pytest.raises(ValueError, match=r"class numbers of shape .* give the argmax"):
        options = {**OPTIONS, "batch_size": batch}
        classifier(0.25).fit(x, np.eye(CLASSES)[labels], **options)


def test_a_call_in_training_without_labels_is_refused():
    with pytest.raises(ValueError, match=r"takes \(images, labels\)"):
        classifier(0.25)(data()[0][:2], training=True)


def test_one_configuration_makes_several_models():
    config = classifier(0.25).get_config()
    for _ in range(2):
        assert Classifier.from_config(config).softmax.num_classes == CLASSES


def test_a_plain_model_on_a_softmax_that_draws_is_refused_in_training():
    start = embedder()
    softmax = NormalizedSoftmax(CLASSES, sampled_classes=0.5)
    model = compiled(keras.Model(start.input, softmax(start.output)))
    with pytest.raises(ValueError, match=r"keras_dml\.models\.Classifier"):
        model.fit(*data(), **OPTIONS)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="softmax must be a keras_dml"):
        Classifier(embedder(), keras.layers.Dense(3))
    inputs = [keras.Input((6,)), keras.Input((6,))]
    two = keras.Model(inputs, keras.layers.Add()(inputs))
    with pytest.raises(ValueError, match=r"one input and one .* got 2 and 1"):
        Classifier(two, NormalizedSoftmax(3))
    with pytest.raises(ValueError, match=r"must be a functional keras\.Model .* got <"):
        Classifier(keras.Sequential([keras.layers.Dense(8)]), NormalizedSoftmax(3))
    softmax = NormalizedSoftmax(3)
    softmax.build((None, 16))
    with pytest.raises(ValueError, match=r"weights of 16 numbers, .* gives 8"):
        Classifier(embedder(), softmax)


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="MirroredStrategy is TensorFlow's"
)
def test_two_replicas_train_as_one_device_does():
    finished = fork_server.run_file(PROGRAM)
    assert finished.returncode == 0, finished.stderr
    printed = finished.stdout
    result = json.loads(printed.splitlines()[-1])
    assert result["replicas"] == 2
    for name in ("softmax", "margin"):
        trained = result[name]
        assert trained["moved"] > 0.1
        assert trained["apart"] < 1e-5
        # Before 3.10 Keras logs the loss of one replica, of any model.
        if tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 10):
            assert trained["losses apart"] < 1e-5
        assert trained["steps drawn"] == [24, 24]


MARGINS = {
    "ArcFace": (losses.ArcFace(0.3, 8.0), {}),
    "CosFace": (losses.CosFace(0.2, 8.0), {}),
    "SubCenterArcFace": (losses.SubCenterArcFace(0.3, 8.0), {"centers": 3}),
    "SoftTriple": (
        losses.SoftTriple(0.05, 8.0),
        {"centers": 4, "center_temperature": 0.2},
    ),
    "ProxyNCAPlusPlus": (losses.ProxyNCAPlusPlus(0.25), {}),
    "ProxyNCA": (losses.ProxyNCA(0.25), {}),
}


def with_proxies(name, sampled_classes):
    """A compiled classifier of cosines that starts the same each time."""
    keras.utils.set_random_seed(0)
    loss, options = MARGINS[name]
    proxies = Proxies(CLASSES, sampled_classes=sampled_classes, seed=1, **options)
    model = Classifier(embedder(), proxies)
    model.compile(SGD(0.1, momentum=0.9, l2=1e-3), loss, metrics=["accuracy"])
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", MARGINS)
def test_margins_over_all_classes_drawn_train_as_a_plain_model(name):
    x, labels = data()
    model = with_proxies(name, 1.0)
    loss, options = MARGINS[name]
    start = embedder()
    plain = keras.Model(start.input, Proxies(CLASSES, **options)(start.output))
    plain.compile(SGD(0.1, momentum=0.9, l2=1e-3), loss, metrics=["accuracy"])
    plain.set_weights(as_numpy(model.trainable_variables))
    found = model.fit(x, labels, epochs=2, **OPTIONS).history
    expected = plain.fit(x, labels, epochs=2, **OPTIONS).history
    for figure in ("loss", "accuracy"):
        np.testing.assert_allclose(found[figure], expected[figure], 1e-4)
    for weight, other in zip(
        as_numpy(model.trainable_variables), plain.get_weights(), strict=True
    ):
        np.testing.assert_allclose(weight, other, 1e-3, 1e-4)
    np.testing.assert_allclose(
        model.evaluate(x, labels, verbose=0), plain.evaluate(x, labels, verbose=0), 1e-4
    )


@pytest.mark.parametrize(
    "name",
    [
        "ArcFace",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("CosFace", "SubCenterArcFace")
        ),
    ],
)
def test_drawn_classes_stand_for_all_that_are_not_in_the_batch(name):
    x, labels = data()
    x, labels = x[:12], labels[:12]
    model = with_proxies(name, 9)
    drawn = as_numpy(
        [drawn_classes(CLASSES, 9, keras.random.SeedGenerator(model.softmax.seed))]
    )[0]
    cosines = model.predict(x, verbose=0).astype(float)
    own = np.take_along_axis(cosines, labels[:, None], 1)[:, 0]
    turned = own - 0.2 if name == "CosFace" else np.cos(np.arccos(own) + 0.3)
    in_batch = np.unique(labels)
    others = np.setdiff1d(drawn, in_batch)
    stands_for = (CLASSES - len(in_batch)) / len(others)
    batch = np.exp(8 * cosines[:, in_batch]).sum(1) - np.exp(8 * own)
    rest = stands_for * np.exp(8 * cosines[:, others]).sum(1)
    expected = np.log(np.exp(8 * turned) + batch + rest) - 8 * turned
    logs = model.train_on_batch(x, labels, return_dict=True)
    assert float(logs["loss"]) == pytest.approx(expected.mean(), rel=1e-4)
    # Without what the drawn stand for: among the classes of the step.
    columns = np.union1d(in_batch, others)
    right = columns[cosines[:, columns].argmax(1)] == labels
    assert float(logs["accuracy"]) == pytest.approx(right.mean())


@pytest.mark.slow
def test_margins_of_a_tenth_of_the_classes_learn():
    x, labels = data()
    model = with_proxies("ArcFace", 0.1)
    before = model.evaluate(x, labels, verbose=0)
    model.fit(x, labels, epochs=30, **OPTIONS)
    loss, accuracy = model.evaluate(x, labels, verbose=0)
    assert loss < 0.8 * before[0]
    assert accuracy > 0.8


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="sparse gradients are TensorFlow's"
)
def test_a_step_of_drawn_margins_writes_the_rows_of_its_classes_alone():
    x, labels = data()
    model = with_proxies("SubCenterArcFace", 5)
    before = as_numpy([model.softmax.class_weights])[0]
    model.train_on_batch(x[:4], labels[:4])
    after = as_numpy([model.softmax.class_weights])[0]
    seeds = keras.random.SeedGenerator(1)
    drawn = as_numpy([drawn_classes(CLASSES, 5, seeds)])[0]
    may = np.union1d(drawn, labels[:4])
    written = np.unique(np.flatnonzero((after != before).any(1)) // 3)
    assert len(written) > 0
    assert np.isin(written, may).all()


@pytest.mark.slow
def test_margins_go_on_from_a_file_as_if_never_stopped(tmp_path):
    x, labels = data()
    model, steady = with_proxies("ArcFace", 0.2), with_proxies("ArcFace", 0.2)
    steady.fit(x, labels, epochs=3, **OPTIONS)
    model.fit(x, labels, epochs=2, **OPTIONS)
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert type(model.loss) is losses.ArcFace
    model.fit(x, labels, epochs=1, **OPTIONS)
    for weight, other in zip(
        as_numpy(model.weights), as_numpy(steady.weights), strict=True
    ):
        np.testing.assert_allclose(weight, other, 1e-5, 1e-6)


@pytest.mark.parametrize("loss", [losses.ProxyAnchor(), "mse"])
def test_a_loss_of_drawn_cosines_that_is_no_softmax_is_refused(loss):
    model = Classifier(embedder(), Proxies(CLASSES, sampled_classes=5))
    with pytest.raises(ValueError, match=r"^loss of Proxies with .* such as .*ArcFace"):
        model.compile("sgd", loss)
    model = Classifier(embedder(), Proxies(CLASSES))
    model.compile("sgd", losses.ProxyAnchor())
    assert np.isfinite(model.fit(*data(), **OPTIONS).history["loss"]).all()


@pytest.mark.parametrize(
    "loss",
    [
        losses.ArcFace(),
        losses.Contrastive(),
        "sparse_categorical_crossentropy",
        keras.losses.sparse_categorical_crossentropy,
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    ],
)
def test_a_loss_of_drawn_logits_that_is_no_cross_entropy_of_them_is_refused(loss):
    model = Classifier(embedder(), NormalizedSoftmax(CLASSES, sampled_classes=5))
    message = r"^loss of a NormalizedSoftmax .*entropy\(from_logits=True\).*; got "
    with pytest.raises(ValueError, match=message):
        model.compile("sgd", loss)


def test_a_cross_entropy_of_ones_own_is_taken():
    def loss(labels, logits):
        return keras.losses.sparse_categorical_crossentropy(labels, logits, True)

    model = Classifier(embedder(), NormalizedSoftmax(CLASSES, sampled_classes=5))
    model.compile("sgd", loss)
    assert np.isfinite(model.fit(*data(), **OPTIONS).history["loss"]).all()


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow writes a SavedModel"
)
def test_export_serves_what_prediction_gives(tmp_path):
    import tensorflow as tf

    x, _ = data()
    model = classifier(0.5)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(
        exported.serve(x), model.predict(x, verbose=0), 1e-4, 1e-5
    )


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_export_on_other_backends_is_refused_with_the_way_out(
    backend, tmp_path, monkeypatch
):
    model = classifier(0.5)
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(
        ValueError, match=f"KERAS_BACKEND={backend}: where KERAS_BACKEND=tensorflow, "
    ):
        model.export(tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []
