import csv
import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_dml.evaluation import RetrievalEvaluation
from tests import fork_server

SIDE = 14
ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = pathlib.Path(__file__).with_name("train_on_two_replicas.py")


def model_and_embedder():
    keras.utils.set_random_seed(0)
    images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    embedder = keras.Model(images, keras.layers.Dense(6)(keras.layers.Flatten()(x)))
    model = keras.Model(images, keras.layers.Dense(5)(embedder.output))
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model, embedder


def recall_one_by_one(embeddings, labels, queries, gallery, k):
    """The share of queries with an image of their class among their k nearest."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    hits = 0
    for query in queries:
        others = [row for row in gallery if row != query]
        nearest = sorted(others, key=lambda row: -(unit[row] @ unit[query]))[:k]
        hits += labels[query] in labels[nearest]
    return hits / len(queries)


def fit(noise, epochs, *callbacks, model):
    images = np.concatenate(list(noise.images(SIDE)))
    return model.fit(
        images,
        noise.labels,
        epochs=epochs,
        batch_size=7,
        callbacks=list(callbacks),
        verbose=0,
    ).history


@pytest.fixture(scope="module")
def run(noise, tmp_path_factory):
    """Five epochs, measured in the first and every second, with all that listen."""
    folder = tmp_path_factory.mktemp("run")
    model, embedder = model_and_embedder()
    epochs = []

    class Recorder(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            embeddings = embedder.predict(noise.images(SIDE), verbose=0)
            epochs.append((dict(logs), embeddings))

    history = fit(
        noise,
        5,
        RetrievalEvaluation(embedder, noise, ks=(1, 3), every=2),
        Recorder(),
        keras.callbacks.CSVLogger(str(folder / "log.csv")),
        keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False),
        keras.callbacks.ModelCheckpoint(
            str(folder / "{epoch}.weights.h5"),
            monitor="val_recall@3",
            mode="max",
            save_best_only=True,
            save_weights_only=True,
        ),
        model=model,
    )
    return folder, history, epochs


MEASURED = [True, True, False, True, False]


def test_figures_are_those_of_the_embedder_at_that_epoch(noise, run):
    _, history, epochs = run
    everything = range(len(noise))
    for k in (1, 3):
        figures = history[f"val_recall@{k}"]
        assert np.isfinite(figures).tolist() == MEASURED
        for epoch in np.flatnonzero(MEASURED):
            _, embeddings = epochs[epoch]
            assert figures[epoch] == pytest.approx(
                recall_one_by_one(embeddings, noise.labels, everything, everything, k)
            )


def test_training_changes_the_figures(run):
    _, history, _ = run
    assert len(set(np.array(history["val_recall@3"])[MEASURED])) > 1


def test_callbacks_listed_later_find_the_figures_in_the_logs(run):
    _, history, epochs = run
    for epoch, (logs, _) in enumerate(epochs):
        assert set(logs) == {"loss", "val_recall@1", "val_recall@3"}
        np.testing.assert_equal(logs["val_recall@3"], history["val_recall@3"][epoch])


def test_csv_logger_writes_them(run):
    folder, history, _ = run
    with open(folder / "log.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 5
    for k in (1, 3):
        written = [float(row[f"val_recall@{k}"]) for row in rows]
        np.testing.assert_allclose(written, history[f"val_recall@{k}"])


def test_tensorboard_shows_them(run):
    folder, history, _ = run
    events = EventAccumulator(str(folder / "tensorboard" / "validation"))
    events.Reload()
    tensors = events.Tensors("epoch_recall@1")
    assert [event.step for event in tensors] == list(range(5))
    shown = [float(tf.make_ndarray(event.tensor_proto)) for event in tensors]
    np.testing.assert_allclose(shown, history["val_recall@1"], rtol=1e-6)


def test_model_checkpoint_keeps_the_best_of_them(run):
    folder, history, _ = run
    saved = sorted(int(file.name.split(".")[0]) for file in folder.glob("*.h5"))
    figures = np.nan_to_num(history["val_recall@3"], nan=-1)
    records = [
        epoch + 1
        for epoch, figure in enumerate(figures)
        if figure > max(figures[:epoch], default=-1)
    ]
    assert saved == records


@pytest.mark.slow
def test_first_epoch_of_a_resumed_fit_is_measured_and_saved_as_the_best(
    noise, tmp_path
):
    model, embedder = model_and_embedder()
    evaluation = RetrievalEvaluation(embedder, noise, ks=(1,), every=3)
    best = keras.callbacks.ModelCheckpoint(
        str(tmp_path / "{epoch}.weights.h5"),
        monitor="val_recall@1",
        mode="max",
        save_best_only=True,
        save_weights_only=True,
    )
    images = np.concatenate(list(noise.images(SIDE)))
    for first, measured in ((4, [True, True, False]), (7, [True, True, False])):
        history = model.fit(
            images,
            noise.labels,
            initial_epoch=first,
            epochs=first + 3,
            callbacks=[evaluation, best],
            verbose=0,
        ).history
        assert np.isfinite(history["val_recall@1"]).tolist() == measured
    assert (tmp_path / "5.weights.h5").is_file()


def test_queries_are_measured_against_the_gallery(noise):
    is_query = np.arange(21) % 3 == 0
    model, embedder = model_and_embedder()
    divided = dataclasses.replace(noise, is_query=is_query)
    evaluation = RetrievalEvaluation(embedder, divided, ks=(1, 4), prefix="test")
    history = fit(noise, 1, evaluation, model=model)
    embeddings = embedder.predict(noise.images(SIDE), verbose=0)
    queries, gallery = np.flatnonzero(is_query), np.flatnonzero(~is_query)
    for k in (1, 4):
        expected = recall_one_by_one(embeddings, noise.labels, queries, gallery, k)
        assert history[f"test_recall@{k}"] == [pytest.approx(expected)]


def test_resize_is_obeyed(noise):
    model, embedder = model_and_embedder()
    evaluation = RetrievalEvaluation(embedder, noise, ks=(1, 2), resize=24)
    history = fit(noise, 1, evaluation, model=model)
    embeddings = embedder.predict(noise.images(SIDE, 24), verbose=0)
    everything = range(len(noise))
    expected = recall_one_by_one(embeddings, noise.labels, everything, everything, 2)
    assert history["val_recall@2"] == [pytest.approx(expected)]


@pytest.mark.parametrize("every", [0, -1, 1.5, "2"])
def test_wrong_interval_is_refused(noise, every):
    with pytest.raises(ValueError, match=f"every must be .*; got {every!r}"):
        RetrievalEvaluation(None, noise, every=every)


@pytest.fixture(scope="module")
def two_replicas(noise, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two_replicas")
    np.savez(folder / "dataset.npz", paths=noise.paths, labels=noise.labels)
    finished = fork_server.run_file(PROGRAM, folder / "dataset.npz", folder)
    assert finished.returncode == 0, finished.stderr
    with np.load(folder / "measured.npz") as arrays:
        return keras.models.load_model(folder / "embedder.keras"), dict(arrays)


@pytest.mark.slow
def test_two_replicas_measure_what_one_device_does_with_their_weights(
    noise, two_replicas
):
    embedder, measured = two_replicas
    embeddings = embedder.predict(noise.images(SIDE), verbose=0)
    everything = range(len(noise))
    assert measured["recall"].shape == (2,)
    assert measured["recall"][-1] == pytest.approx(
        recall_one_by_one(embeddings, noise.labels, everything, everything, 1)
    )


@pytest.mark.slow
def test_two_replicas_embed_a_last_partial_batch_too(noise, two_replicas):
    embedder, measured = two_replicas
    assert measured["embeddings"].shape[0] == 21
    np.testing.assert_allclose(
        measured["embeddings"],
        embedder.predict(noise.images(SIDE), verbose=0),
        atol=1e-5,
    )


@pytest.mark.slow
def test_embedding_gives_the_replicas_the_same_statistics(two_replicas):
    _, measured = two_replicas
    for of_replica in measured["of_replicas"]:
        np.testing.assert_allclose(of_replica, measured["moving_mean"], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embedder": None}, "embedder must be a keras.Model .*; got None"),
        ({"prefix": None}, "prefix must be text, such as 'val' or 'test'; got None"),
        ({"prefix": ""}, "prefix must be text"),
        ({"resize": "9"}, "resize must be an integer"),
        ({"batch_size": 2.5}, "batch_size must be an integer of at least 1; got 2.5"),
    ],
)
def test_wrong_arguments_are_refused_before_training(noise, arguments, message):
    _, embedder = model_and_embedder()
    with pytest.raises(ValueError, match=message):
        RetrievalEvaluation(**{"embedder": embedder, "dataset": noise, **arguments})
