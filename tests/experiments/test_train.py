import csv
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_file_loader

import keras_dml
from experiments._lib.build import build_models
from experiments.configs import image_folder_paper
from tests.experiments.programs import SMALL
from tests.experiments.programs import run_program
from tests.experiments.programs import write_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


def run_train(photos, folder, *arguments):
    """Runs the program on the photos, with small settings."""
    return run_program(
        "train", *SMALL, f"--data_dir={photos}", f"--output_dir={folder}", *arguments
    )


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    finished = run_program(
        "train", *SMALL, f"--data_dir={photos}", f"--output_dir={folder}"
    )
    assert finished.returncode == 0, finished.stderr
    return folder, finished


@pytest.fixture(scope="module")
def earlier_run(run, tmp_path_factory):
    """A copy of the run, with the settings as version 0.1 called them."""
    folder = tmp_path_factory.mktemp("earlier") / "run"
    shutil.copytree(run[0], folder)
    config = json.loads((folder / "config.json").read_text())
    config["warm_up_epochs"] = config.pop("frozen_epochs")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_run_directory_holds_everything(run):
    folder, _ = run
    assert {path.name for path in folder.iterdir()} == {
        "checkpoints",
        "config.json",
        "embedding.keras",
        "index",
        "log.csv",
        "metrics.json",
        "report",
        "serving",
        "tensorboard",
        "trunk.weights.h5",
        "untrained.json",
    }
    assert (folder / "serving" / "1" / "saved_model.pb").is_file()
    assert list(folder.glob("tensorboard/train/events.*"))
    assert (folder / "tensorboard/train/projector_config.pbtxt").is_file()


def test_metrics_have_the_documented_shape_and_equal_the_models_own(run, photos):
    folder, _ = run
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["images"] == 36
    assert metrics["classes"] == 6
    names = ["recall@1", "recall@2", "mrr", "r_precision", "map@r"]
    assert list(metrics["float"]) == list(metrics["binary"]) == names
    assert metrics["clustering"]["clusters"] == 6
    through = metrics["index"]
    assert through["kind"] == "annoy"
    assert {"recall@1", "recall@2", "agreement@1", "agreement@2"} <= set(through)
    assert {"ms_per_query", "exact_ms_per_query"} <= set(through)
    assert through["calibration"]["k"] == 2

    embedder = keras.models.load_model(folder / "embedding.keras")
    _, test = keras_dml.data.image_folder(photos)
    images = np.concatenate(list(test.images(28, 32).as_numpy_iterator()))
    embeddings = embedder.predict(images, verbose=0)
    cosines = embeddings @ embeddings.T
    np.fill_diagonal(cosines, -2)
    nearest = test.labels[cosines.argmax(axis=1)]
    assert metrics["float"]["recall@1"] == pytest.approx(
        np.mean(nearest == test.labels)
    )


@pytest.mark.slow
def test_another_run_can_start_from_the_trunk(run):
    folder, _ = run
    again = keras_dml.models.trunk(
        "conv4", (28, 28, 3), str(folder / "trunk.weights.h5")
    )
    saved = keras.models.load_model(folder / "embedding.keras").get_weights()
    for weights, expected in zip(again.get_weights(), saved, strict=False):
        np.testing.assert_array_equal(weights, expected)
    assert len(again.get_weights()) == len(saved) - 1  # without the linear map


def test_log_has_a_row_an_epoch_and_no_empty_columns(run):
    folder, _ = run
    with open(folder / "log.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    expected = {"epoch", "loss", "accuracy", "test_recall@1", "test_recall@2"}
    assert set(rows[0]) == expected
    assert 0 <= float(rows[1]["test_recall@1"]) <= 1


def test_untrained_model_is_in_metrics_log_table_and_tensorboard(run, photos):
    folder, finished = run
    config = image_folder_paper.get_config()
    config.update(json.loads((folder / "config.json").read_text()))
    keras.utils.set_random_seed(config.seed)
    _, embedder, _ = build_models(config, num_classes=6)
    _, test = keras_dml.data.image_folder(photos)
    embeddings = keras_dml.evaluation.embed(embedder, test, resize=32, verbose=0)
    before = keras_dml.evaluation.recall_at_k(embeddings, test.labels, ks=(1, 2))
    metrics = json.loads((folder / "metrics.json").read_text())
    untrained = metrics["untrained"]["float"]
    assert {name: untrained[name] for name in before} == before
    with open(folder / "log.csv", newline="") as stream:
        first = next(csv.DictReader(stream))
    assert {name: float(first[f"test_{name}"]) for name in before} == before
    assert first["loss"] == "NA"
    line = next(
        line for line in finished.stdout.splitlines() if line.startswith("float before")
    )
    assert line.split()[2] == f"{100 * before['recall@1']:.2f}"
    assert f"from {100 * before['recall@1']:.2f} to " in finished.stdout
    steps = {
        event.step
        for file in (folder / "tensorboard").rglob("events.*")
        for event in event_file_loader.EventFileLoader(str(file)).Load()
        if any(value.tag == "epoch_test_recall@1" for value in event.summary.value)
    }
    assert steps == {0, 1, 2}


def test_table_is_printed_without_tensorflows_start_up_noise(run):
    folder, finished = run
    assert "R@1" in finished.stdout
    assert "agrees with exact search on" in finished.stdout
    assert str(folder / "report" / "index.html") in finished.stdout
    assert finished.stderr == ""


@pytest.mark.slow
def test_replicas_and_weights_best_on_validation_classes(photos, tmp_path):
    folder = tmp_path / "run"
    finished = run_train(
        photos,
        folder,
        "--logical_cpus=2",
        "--config.sampled_classes=0.5",
        "--config.validation_classes=0.34",
        "--config.frozen_epochs=1",
        "--config.epochs=3",
        "--config.evaluate_every=2",
    )
    assert finished.returncode == 0, finished.stderr
    assert "2 replica(s)" in finished.stdout
    with open(folder / "log.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert "test_recall@1" not in rows[0]
    measured = [float(row["val_recall@1"]) for row in rows]
    assert np.isfinite(measured).tolist() == [True, True, True, False, True]

    train, _ = keras_dml.data.image_folder(photos)
    _, held_out = train.split_by_class(0.34, seed=0)
    assert len(held_out.class_names) == 2
    embedder = keras.models.load_model(folder / "embedding.keras")
    embeddings = keras_dml.evaluation.embed(embedder, held_out, resize=32, verbose=0)
    recall = keras_dml.evaluation.recall_at_k(embeddings, held_out.labels, ks=(1,))
    assert recall["recall@1"] == pytest.approx(np.nanmax(measured))


@pytest.mark.slow
def test_another_loss_trains_with_replicas_and_a_frozen_epoch(photos, tmp_path):
    folder = tmp_path / "run"
    finished = run_train(
        photos,
        folder,
        "--config.loss=n_pairs",
        "--logical_cpus=2",
        "--config.frozen_epochs=1",
        "--config.epochs=1",
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    with open(folder / "log.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert set(rows[0]) == {"epoch", "loss", "test_recall@1", "test_recall@2"}
    assert json.loads((folder / "config.json").read_text())["loss"] == "n_pairs"
    embedder = keras.models.load_model(folder / "embedding.keras")
    assert embedder.layers[-1].name == "embedding"


@pytest.mark.slow
def test_frozen_epochs_come_before_the_others_and_plain_sampling_trains(
    photos, tmp_path
):
    folder = tmp_path / "run"
    finished = run_train(
        photos,
        folder,
        "--config.frozen_epochs=2",
        "--config.epochs=1",
        "--config.balanced=False",
        "--config.layer_norm=False",
        "--config.learning_rate=1e-8",
    )
    assert finished.returncode == 0, finished.stderr
    with open(folder / "log.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 4
    embedder = keras.models.load_model(folder / "embedding.keras")
    assert "layer_norm" not in [layer.name for layer in embedder.layers]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--logical_cpus=2", "--config.images_per_class=3", "--config.classes=5"],
            "15",
        ),
        (["--config.classes=7"], "classes=7"),
        (["--config.balanced=False", "--config.classes=20"], "batch_size=60"),
        (
            ["--config.frozen_epochs=-1"],
            "--config.frozen_epochs must be an integer of at least 0; got -1.",
        ),
        (["--config.trunk=resnet5"], "resnet5"),
        (["--config.loss=triplet"], "--config.loss must be one of normalized_softmax"),
        (
            ["--config.sampled_classes=0.0"],
            "sampled_classes must be a number above 0 and at most 1",
        ),
        (
            ["--config.sampled_classes=0.5", "--config.loss=proxy_anchor"],
            "--config.loss must be normalized_softmax or cos_face or arc_face or",
        ),
        (
            ["--config.validation_classes=0.4", "--config.evaluate_every=3"],
            "evaluate_every",
        ),
        (
            ["--config.index=tree"],
            "--config.index must be one of 'exact', 'annoy', 'hnsw'; got 'tree'.",
        ),
        (["--config.nosuch=3"], "no setting 'nosuch'."),
        (["--config.trunc=conv4"], "no setting 'trunc'. Did you mean \"trunk\""),
        (
            ["--config.warm_up_epochs=1"],
            "no setting 'warm_up_epochs'. It is called frozen_epochs now.",
        ),
        (["stray"], "stray"),
    ],
)
def test_bad_settings_end_with_one_line_and_leave_nothing(
    arguments, message, photos, tmp_path
):
    folder = tmp_path / "run"
    finished = run_train(photos, folder, *arguments)
    assert finished.returncode != 0
    assert message in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1
    assert not folder.exists()


def test_test_set_that_can_not_be_measured_is_refused(tmp_path):
    root = write_photos(tmp_path / "photos", classes=4, images=1)
    folder = tmp_path / "run"
    finished = run_train(root, folder)
    assert finished.returncode == 2
    assert "4 images of 4 classes" in finished.stderr
    assert not folder.exists()


def test_unreadable_image_is_named(photos, tmp_path):
    root = write_photos(tmp_path / "photos", classes=4, images=3)
    bad = root / "test" / "test class 2" / "1.jpg"
    bad.write_bytes(bad.read_bytes()[:300])
    folder = tmp_path / "run"
    finished = run_program(
        "train", *SMALL, f"--data_dir={root}", f"--output_dir={folder}"
    )
    assert finished.returncode != 0
    assert "Traceback" not in finished.stderr
    last_line = finished.stderr.strip().splitlines()[-1]
    assert last_line.startswith("error: ")
    assert last_line.endswith(str(bad))
    assert not folder.exists()


def test_run_that_is_there_is_not_touched(run, photos):
    folder, _ = run
    before = (folder / "metrics.json").stat().st_mtime_ns
    finished = run_program(
        "train", *SMALL, f"--data_dir={photos}", f"--output_dir={folder}"
    )
    assert finished.returncode == 0
    assert "is finished already" in finished.stdout
    assert (folder / "metrics.json").stat().st_mtime_ns == before


def test_evaluate_repeats_the_figures_of_an_earlier_run(earlier_run, photos, tmp_path):
    folder = earlier_run
    output = tmp_path / "metrics.json"
    finished = run_program(
        "evaluate",
        *SMALL,
        f"--model={folder / 'embedding.keras'}",
        f"--data_dir={photos}",
        f"--output={output}",
    )
    assert finished.returncode == 0, finished.stderr
    again, first = (
        json.loads(file.read_text()) for file in (output, folder / "metrics.json")
    )
    del first["untrained"]
    for metrics in (again, first):
        for figures in (metrics["index"], metrics["index"]["calibration"]):
            assert figures.pop("ms_per_query") > 0
            assert figures.pop("exact_ms_per_query") > 0
    assert again == first


@pytest.mark.parametrize(
    ("output", "message"),
    [("", "is a folder"), ("missing/metrics.json", "cannot be written in")],
)
def test_evaluate_refuses_an_output_before_anything_is_loaded(
    tmp_path, output, message
):
    finished = run_program(
        "evaluate",
        *SMALL,
        f"--model={tmp_path / 'no.keras'}",
        f"--data_dir={tmp_path / 'no_data'}",
        f"--output={tmp_path / output}",
    )
    assert finished.returncode == 2
    assert f"--output='{tmp_path / output}' {message}" in finished.stderr


def test_evaluate_refuses_settings_that_measure_other_pixels(run, photos):
    folder, _ = run
    finished = run_program(
        "evaluate",
        *SMALL,
        "--config.resize=40",
        f"--model={folder / 'embedding.keras'}",
        f"--data_dir={photos}",
    )
    assert finished.returncode == 2
    assert "--config.resize is 40" in finished.stderr
    assert "trained with 32" in finished.stderr


@pytest.mark.slow
def test_export_writes_the_next_version_and_search_finds_the_image_itself(
    earlier_run, photos
):
    folder = earlier_run
    assert run_program("export", f"--run={folder}").returncode == 0
    first, second = (
        tf.saved_model.load(str(folder / "serving" / version)) for version in "12"
    )
    pixels = tf.random.stateless_uniform((3, 28, 28, 3), (1, 2), 0, 255)
    np.testing.assert_array_equal(
        first.signatures["images"](images=pixels)["embedding"],
        second.signatures["images"](images=pixels)["embedding"],
    )

    image = photos / "test" / "test class 3" / "2.jpg"
    finished = run_program("search", f"--run={folder}", f"--image={image}", "--k=2")
    assert finished.returncode == 0, finished.stderr
    agreement, _, nearest, _ = finished.stdout.splitlines()
    assert agreement.startswith(
        "The annoy index agreed with exact search on 100.0 % of the 2 nearest, at "
    )
    assert nearest.split(maxsplit=1) == ["1.000", f"test class 3  {image}"]


def test_own_images_are_indexed_and_searched(earlier_run, photos, tmp_path):
    folder = earlier_run
    output = tmp_path / "photos.index"
    arguments = (f"--run={folder}", f"--data_dir={photos / 'train'}", "--kind=annoy")
    finished = run_program("index", *arguments, f"--output_dir={output}", "--k=3")
    assert finished.returncode == 0, finished.stderr
    assert "36 images. The annoy index agreed with exact search on" in finished.stdout

    image = photos / "train" / "train class 1" / "4.jpg"
    asked = (f"--run={folder}", f"--index={output}", f"--image={image}", "--k=1")
    finished = run_program("search", *asked)
    assert finished.stdout.splitlines()[-1].endswith(f"train class 1  {image}")

    finished = run_program("index", *arguments, f"--output_dir={output}")
    assert finished.returncode == 2
    assert "exists already" in finished.stderr
    finished = run_program(
        "index", f"--run={folder}", "--data_dir=nowhere", "--output_dir=new.index"
    )
    assert finished.stderr == "error: no folder 'nowhere'.\n"
