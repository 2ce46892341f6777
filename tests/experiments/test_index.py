import importlib.util
import pathlib

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from experiments import index
from experiments._corpus import gallery as corpus_gallery
from experiments._corpus import shards as shard_files
from experiments._corpus.embed_shard import embed_shard
from experiments._corpus.list_images import list_images
from experiments._corpus.record import SHARDS
from experiments._corpus.record import Record
from experiments._corpus.record import corpus_folder
from experiments._corpus.record import sha256_of_file
from experiments._corpus.shards import EmbedderFile
from experiments._corpus.shards import corpus_shards
from experiments._lib.load_run import load_embedder
from keras_dml.data import gallery_folder
from keras_dml.evaluation import embed
from keras_dml.search import LanceGallery
from keras_dml.search import load_gallery


def run_index(**arguments):
    """Runs its main function here, with neither run nor images to be read."""
    nowhere = dict.fromkeys(("run", "data_dir"), "nowhere")
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**{**nowhere, **arguments}):
        index.main([])


def test_run_is_asked_for_when_all_else_is_right(tmp_path):
    with pytest.raises(FileNotFoundError, match="--run='nowhere' is not the folder"):
        run_index(output_dir=str(tmp_path / "deep" / "new"), kind="hnsw", agreement=1.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("agreement", 0.0),
        ("agreement", float("nan")),
        ("agreement", 1.01),
        ("seed", -1),
        ("seed", 3_000_000_000),
    ],
)
def test_number_out_of_range_is_refused_before_anything_is_read(name, value, tmp_path):
    with pytest.raises(flags.IllegalFlagValueError, match=f"--{name}="):
        run_index(output_dir=str(tmp_path / "new"), **{name: value})


def test_missing_faiss_is_said_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "keras_dml\[faiss\]"'):
        run_index(output_dir=str(tmp_path / "new"), kind="hnsw")


def test_output_that_cannot_be_made_is_refused_before_anything_is_read(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match=r"--output_dir=.*exists already"):
        run_index(output_dir=str(file))
    with pytest.raises(NotADirectoryError, match=r"--output_dir=.*cannot be made in"):
        run_index(output_dir=str(file / "new"))


@pytest.fixture(scope="module")
def folder_of_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run", seed=0)


def make_run(folder, seed):
    """Writes what index and search need of a run."""
    folder.mkdir()
    keras.utils.set_random_seed(seed)
    images = keras.Input((14, 14, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    keras.Model(images, keras.layers.Dense(8)(x)).save(folder / "embedding.keras")
    (folder / "config.json").write_text('{"resize": 16}')
    return folder


@pytest.fixture
def photos(tmp_path):
    """Five images in two class folders, and one of no class."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for name in ("a/1.png", "a/2.png", "a/3.png", "b/4.png", "b/5.png", "6.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_noise(folder / name, rng)
    return folder


def write_noise(file, rng):
    Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(file)


def update(capsys, run, photos, output, **arguments):
    """Runs the program and gives what it printed."""
    flags.FLAGS.mark_as_parsed()
    settings = {"run": run, "data_dir": photos, "output_dir": output, **arguments}
    with flagsaver.flagsaver(**{name: str(one) for name, one in settings.items()}):
        index.main([])
    return capsys.readouterr().out


def test_sealed_gallery_has_class_folders_and_images_without(
    folder_of_run, photos, tmp_path, capsys
):
    said = update(capsys, folder_of_run, photos, tmp_path / "new")
    assert said.endswith("new: 6 images. The search is exact.\n")
    gallery = load_gallery(tmp_path / "new")
    assert gallery.classes.tolist() == ["", "a", "a", "a", "b", "b"]
    assert (gallery.image_size, gallery.resize) == (14, 16)
    with pytest.raises(FileExistsError, match=r"--output_dir=.*exists already"):
        update(capsys, folder_of_run, photos, tmp_path / "new")


def test_growing_gallery_follows_the_folder(folder_of_run, photos, tmp_path, capsys):
    pytest.importorskip("lancedb", reason="a gallery that grows is LanceDB's")
    output = tmp_path / "new"
    embedder = load_embedder(folder_of_run / "embedding.keras")

    def run():
        said = update(capsys, folder_of_run, photos, output, kind="lance")
        gallery = load_gallery(output)
        images = gallery_folder(photos)
        expected = {str(path) for path in images.paths}
        assert {*gallery.read()["id"]} == expected
        matches = gallery.search(embedder, images.paths, k=1)
        assert matches.names[:, 0].tolist() == images.paths.tolist()
        return said

    assert "6 new, 0 changed, 0 gone." in run()
    put = LanceGallery.put_embeddings
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LanceGallery, "put_embeddings", None)
        assert "0 new, 0 changed, 0 gone." in run()  # Nothing is embedded again.
    assert LanceGallery.put_embeddings is put
    write_noise(photos / "b" / "7.png", np.random.default_rng(7))
    write_noise(photos / "a" / "1.png", np.random.default_rng(8))
    (photos / "a" / "2.png").unlink()
    assert "1 new, 1 changed, 1 gone." in run()
    gallery = load_gallery(output)
    gallery.put(embedder, str(photos / "6.png"), ["mine"], [""], other_columns())
    update(capsys, folder_of_run, photos, output, kind="lance")
    assert "mine" in load_gallery(output).read()["id"]


def other_columns():
    return {"size": [1], "modified": [1]}


def test_class_that_is_emptied_is_gone(folder_of_run, photos, tmp_path, capsys):
    pytest.importorskip("lancedb", reason="a gallery that grows is LanceDB's")
    update(capsys, folder_of_run, photos, tmp_path / "new", kind="lance")
    for file in (photos / "b").iterdir():
        file.unlink()
    said = update(capsys, folder_of_run, photos, tmp_path / "new", kind="lance")
    assert "0 new, 0 changed, 2 gone." in said


@pytest.mark.parametrize("kind", ["exact", "lance"])
def test_gallery_among_its_images_is_refused(folder_of_run, photos, capsys, kind):
    with pytest.raises(ValueError, match=r"--output_dir=.* is inside --data_dir="):
        update(capsys, folder_of_run, photos, photos / "a" / "new", kind=kind)
    assert not (photos / "a" / "new").exists()


def test_bad_images_of_a_growing_gallery_are_skipped(
    folder_of_run, photos, tmp_path, capsys
):
    pytest.importorskip("lancedb", reason="a gallery that grows is LanceDB's")
    output = tmp_path / "new"
    update(capsys, folder_of_run, photos, output, kind="lance")
    (photos / "a" / "1.png").write_text("no image any more")
    (photos / "a" / "new.png").write_text("no image")
    with pytest.raises(ValueError, match="Cannot read 2 of 2 images"):
        update(capsys, folder_of_run, photos, output, kind="lance")
    skip = {"kind": "lance", "on_bad_image": "skip"}
    said = update(capsys, folder_of_run, photos, output, **skip)
    assert "2 images can't be read:" in said
    assert "0 new, 0 changed, 1 gone." in said
    left = sorted(pathlib.Path(one).name for one in load_gallery(output).read()["id"])
    assert left == ["2.png", "3.png", "4.png", "5.png", "6.png"]


def test_gallery_of_another_model_or_kind_is_refused(
    folder_of_run, photos, tmp_path, capsys
):
    pytest.importorskip("lancedb", reason="a gallery that grows is LanceDB's")
    LanceGallery.create(tmp_path / "other", 9, 14, 16, {"size": int, "modified": int})
    with pytest.raises(ValueError, match=r"of 9 dimensions and images of 14 pixels"):
        update(capsys, folder_of_run, photos, tmp_path / "other", kind="lance")
    update(capsys, folder_of_run, photos, tmp_path / "same", kind="lance")
    retrained = tmp_path / "retrained"
    make_run(retrained, seed=1)
    write_noise(photos / "b" / "7.png", np.random.default_rng(7))
    with pytest.raises(ValueError, match="holds embeddings of another model than"):
        update(capsys, retrained, photos, tmp_path / "same", kind="lance")
    (tmp_path / "others").mkdir()
    write_noise(tmp_path / "others" / "8.png", np.random.default_rng(8))
    with pytest.raises(ValueError, match="holds embeddings of another model than"):
        update(capsys, retrained, tmp_path / "others", tmp_path / "same", kind="lance")
    assert len(load_gallery(tmp_path / "same")) == 6
    with pytest.raises(FileExistsError, match=r"that grows\. --kind=lance updates it"):
        update(capsys, folder_of_run, photos, tmp_path / "same")
    LanceGallery.create(tmp_path / "own", 8, 14, 16)
    with pytest.raises(ValueError, match="made without the columns modified, size"):
        update(capsys, folder_of_run, photos, tmp_path / "own", kind="lance")
    (tmp_path / "link").symlink_to(photos)
    said = update(
        capsys, folder_of_run, tmp_path / "link", tmp_path / "same", kind="lance"
    )
    assert "1 new, 0 changed, 0 gone." in said
    update(capsys, folder_of_run, photos, tmp_path / "sealed")
    with pytest.raises(FileExistsError, match="is a sealed gallery; name a new"):
        update(capsys, folder_of_run, photos, tmp_path / "sealed", kind="lance")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FileNotFoundError, match="no gallery in"):
        update(capsys, folder_of_run, photos, tmp_path / "mine", kind="lance")


def write_corpus(run, photos, output):
    """What experiments.embed_corpus writes, without Ray; gives the shards."""
    file = str(run / "embedding.keras")
    model = EmbedderFile(file, sha256_of_file(file), 8, 14, 16)
    images = list_images(str(photos))
    shards = corpus_shards(images, model)
    names = tuple(shard.name for shard in shards)
    record = Record(**model.about(), images=len(images), shards=names)
    with corpus_folder(output, record):
        for shard in shards:
            embed_shard(load_embedder(file), model, shard, output / SHARDS)
    return [output / SHARDS / name for name in names]


@pytest.fixture
def corpus(folder_of_run, photos, tmp_path, monkeypatch):
    """Six images in two shards."""
    pytest.importorskip("lancedb", reason="a gallery that grows is LanceDB's")
    monkeypatch.setattr(shard_files, "_IMAGES", 4)
    write_corpus(folder_of_run, photos, tmp_path / "corpus")
    return tmp_path / "corpus"


def update_from(capsys, corpus, output, **arguments):
    flags.FLAGS.mark_as_parsed()
    settings = {"from": str(corpus), "output_dir": str(output), **arguments}
    with flagsaver.flagsaver(**settings):
        index.main([])
    return capsys.readouterr().out


def test_corpus_becomes_the_gallery_that_its_images_would(
    folder_of_run, photos, corpus, tmp_path, capsys, monkeypatch
):
    output = tmp_path / "new"
    said = update_from(capsys, corpus, output)
    assert said.endswith(f"\n6 new.\n{output}: 6 images. The search is exact.\n")
    gallery, images = load_gallery(output), gallery_folder(photos)
    assert (gallery.image_size, gallery.resize) == (14, 16)
    found = gallery.read()
    classes = dict(zip(found["id"], found["class"], strict=True))
    names = [images.class_names[label] for label in images.labels]
    assert classes == dict(zip(images.paths, names, strict=True))
    embedder = load_embedder(folder_of_run / "embedding.keras")
    for path, row in zip(images.paths, embed(embedder, images, 16), strict=True):
        expected = row / np.linalg.norm(row)
        np.testing.assert_allclose(gallery.embedding(path), expected, atol=1e-6)
    assert "6 images" in update_from(capsys, corpus, output, run=str(folder_of_run))
    # The folder itself has nothing to add, and so nothing is embedded again.
    write_noise(photos / "b" / "7.png", np.random.default_rng(7))
    said = update(capsys, folder_of_run, photos, output, kind="lance")
    assert "1 new, 0 changed, 0 gone." in said
    with pytest.raises(FileExistsError, match=r"--output_dir=.* holds other images"):
        update_from(capsys, corpus, output)


def test_indexing_a_corpus_goes_on_where_it_was_and_calibrates(
    corpus, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(corpus_gallery, "_SHARDS_AT_ONCE", 1)
    monkeypatch.setattr(index, "_EXACT_UP_TO", 5)
    put = LanceGallery.put_embeddings

    def put_once(*arguments):
        monkeypatch.setattr(LanceGallery, "put_embeddings", None)
        put(*arguments)

    with monkeypatch.context():
        monkeypatch.setattr(LanceGallery, "put_embeddings", put_once)
        with pytest.raises(TypeError):
            update_from(capsys, corpus, tmp_path / "new")
    monkeypatch.setattr(LanceGallery, "put_embeddings", put)
    assert len(load_gallery(tmp_path / "new")) == 4
    said = update_from(capsys, corpus, tmp_path / "new")
    assert "2 new." in said
    assert "The lance index agreed with exact search on" in said
    gallery = load_gallery(tmp_path / "new")
    assert (len(gallery), gallery.kind) == (6, "lance")


def test_corpus_that_is_not_whole_or_of_another_model_is_refused(
    folder_of_run, photos, corpus, tmp_path, capsys
):
    def refused(reason, error=ValueError, output=tmp_path / "new", **arguments):
        with pytest.raises(error, match=reason):
            update_from(capsys, corpus, output, **arguments)

    refused("--from makes a gallery of --kind=lance; got --kind=hnsw", kind="hnsw")
    refused("give --data_dir or --from, not both", data_dir=str(photos))
    retrained = make_run(tmp_path / "retrained", seed=1)
    refused("--from=.* was embedded with another model than", run=str(retrained))
    assert not (tmp_path / "new").exists()
    write_corpus(retrained, photos, tmp_path / "other")
    update_from(capsys, tmp_path / "other", tmp_path / "taken")
    refused("or embeddings of another model", FileExistsError, tmp_path / "taken")
    next((corpus / SHARDS).iterdir()).unlink()
    refused("is not whole: 1 of 2 shards are missing", FileNotFoundError)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="--run and --data_dir must be given, or --fr"):
        run_index(output_dir="new", run=None, data_dir=None)
