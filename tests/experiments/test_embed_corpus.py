"""Embedding a corpus, without Ray: what is listed, and how shards come to be."""

import dataclasses
import os
import socket
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from experiments._corpus import list_images as listing
from experiments._corpus import shards as shard_files
from experiments._corpus.cluster import check_ray
from experiments._corpus.cluster import connected
from experiments._corpus.embed_shard import embed_shard
from experiments._corpus.list_images import list_images
from experiments._corpus.record import RECORD_FILE
from experiments._corpus.record import Record
from experiments._corpus.record import corpus_folder
from experiments._corpus.record import read_record
from experiments._corpus.record import write_rejected
from experiments._corpus.shards import EmbedderFile
from experiments._corpus.shards import corpus_shards
from experiments._corpus.shards import read_shard
from experiments._corpus.shards import rejected_images
from experiments._corpus.workers import Worker
from keras_dml.data import gallery_folder
from keras_dml.data import image_folder
from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import embed

parquet = pytest.importorskip("pyarrow.parquet", reason="shards are Parquet files")

MODEL = EmbedderFile("model.keras", "5e", dim=8, image_size=14, resize=16)
BAD = {
    "a/003.png": "it is no JPEG, PNG, BMP, GIF or WebP file",
    "a/150.png": "the file is empty",
    "b/215.png": "No such file or directory",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """250 images in two class folders, three of which can't be read."""
    root = tmp_path_factory.mktemp("corpus") / "photos"
    rng = np.random.default_rng(0)
    for row in range(250):
        file = root / ("a" if row < 180 else "b") / f"{row:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(file)
    text, empty, link = (root / file for file in BAD)
    text.write_text("no image")
    empty.write_bytes(b"")
    link.unlink()
    link.symlink_to("nowhere.png")
    return root


class AddPlace(keras.layers.Layer):
    """Makes a row depend on its place in the batch, as rounding does now and then."""

    def call(self, x):
        place = keras.ops.arange(keras.ops.shape(x)[0])
        return x + 1e-3 * keras.ops.cast(place, x.dtype)[:, None]


@pytest.fixture(scope="module")
def embedder():
    keras.utils.set_random_seed(0)
    images = keras.Input((14, 14, 3))
    x = keras.layers.Rescaling(1 / 255)(keras.layers.Flatten()(images))
    return keras.Model(images, keras.layers.Dense(8)(AddPlace()(x)))


@pytest.fixture(autouse=True)
def two_batches_a_shard(monkeypatch):
    monkeypatch.setattr(shard_files, "_IMAGES", 200)


def test_folder_is_listed_as_a_gallery_has_it(photos):
    images, expected = list_images(str(photos)), gallery_folder(photos, False)
    assert images.paths == expected.paths.tolist()
    names = [expected.class_names[label] for label in expected.labels]
    assert images.classes == names
    assert np.flatnonzero(images.sizes < 0).tolist() == [215]
    assert images.sizes[150] == 0
    path = images.paths[7]
    assert images.sizes[7] == os.path.getsize(path)
    assert images.modified[7] == os.stat(path).st_mtime_ns
    assert listing._SUFFIXES == sys.modules[image_folder.__module__]._SUFFIXES


def write_files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_folders_in_folders_are_listed_but_hidden_ones_are_not(tmp_path):
    write_files(tmp_path, "b.png", "c/d/1.JPG", "c/2.gif", "c/.e/3.png", ".4.png")
    write_files(tmp_path, "c/notes.txt", "c/.5.png")
    (tmp_path / "f").symlink_to("c/d")
    images = list_images(str(tmp_path))
    below = [os.path.relpath(path, tmp_path) for path in images.paths]
    assert below == ["b.png", "c/2.gif", "c/d/1.JPG", "f/1.JPG"]
    assert images.classes == ["", "c", "c/d", "f"]
    (tmp_path / "c" / "up").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"/c/up' leads back to"):
        list_images(str(tmp_path))


def test_list_keeps_its_order_and_glob_sorts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, "b.png", "a b.png", "c/1.jpg", "c/2.txt")
    (tmp_path / "list.txt").write_text("c/1.jpg\r\n\na b.png\nmissing.png\n")
    expected = [str(tmp_path / name) for name in ("c/1.jpg", "a b.png", "missing.png")]
    images = list_images("list.txt")
    assert (images.paths, images.classes) == (expected, ["", "", ""])
    assert images.sizes.tolist() == [7, 7, -1]
    found = [str(tmp_path / name) for name in ("a b.png", "b.png", "c/1.jpg")]
    assert list_images("**/*.[pj][np]g").paths == found


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a.png\nb.png\n./a.png\n", r"a\.png' 2 times"),
        (b"\n \n", "lists no images"),
        (b"\xff\xd8", "is no text in UTF-8"),
    ],
)
def test_list_that_is_none_is_refused(tmp_path, content, reason):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"--images=.*list\.txt' .*{reason}"):
        list_images(str(tmp_path / "list.txt"))


def test_nothing_to_list_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--images=.* has no images in it"):
        list_images(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no such folder or list, and no file"):
        list_images(str(tmp_path / "*.png"))
    (tmp_path / os.fsdecode(b"\xff.png")).touch()
    with pytest.raises(ValueError, match="is not UTF-8"):
        list_images(str(tmp_path))


def test_name_of_a_shard_follows_from_all_that_it_holds(photos):
    images = list_images(str(photos))
    first, last = corpus_shards(images, MODEL)
    assert (len(first.images), len(last.images)) == (200, 50)
    assert [one.name[:7] for one in (first, last)] == ["000000-", "000001-"]
    again = corpus_shards(list_images(str(photos)), MODEL)
    assert [one.name for one in again] == [first.name, last.name]
    others = [
        dataclasses.replace(MODEL, sha256="5f"),
        dataclasses.replace(MODEL, resize=17),
    ]
    renamed = {corpus_shards(images, other)[0].name for other in others}
    for field in ("paths", "classes", "sizes", "modified"):
        values = getattr(images, field).copy()
        values[7] += "x" if field in ("paths", "classes") else 1
        changed = dataclasses.replace(images, **{field: values})
        one, unchanged = corpus_shards(changed, MODEL)
        renamed.add(one.name)
        assert unchanged.name == last.name
    assert len(renamed - {first.name}) == 6
    moved = dataclasses.replace(MODEL, file="elsewhere.keras")
    assert corpus_shards(images, moved)[0].name == first.name


def test_shards_hold_what_embed_gives_to_the_bit(photos, embedder, tmp_path):
    shards = corpus_shards(list_images(str(photos)), MODEL)
    images = gallery_folder(photos, False)
    bad = {str(photos / file): reason for file, reason in BAD.items()}
    # Those that can't be read keep their places, as a row rounds by its place.
    embeddings = embed(embedder, images.with_replaced(bad), 16, verbose=0)
    readable = ~np.isin(images.paths, list(bad))
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in shards:
        embed_shard(embedder, MODEL, shard, folder)
    names = sorted(file.name for file in folder.iterdir())
    assert names == [shard.name for shard in shards]
    whole = parquet.read_table(folder).to_pydict()
    assert whole["path"] == images.paths[readable].tolist()
    assert whole["class"] == ["a"] * 178 + ["b"] * 69
    found = np.array(whole["embedding"], np.float32)
    np.testing.assert_array_equal(found, embeddings[readable])
    np.testing.assert_array_equal(whole["code"], binary_codes(embeddings[readable]))
    rejected = [rejected_images(folder, shard) for shard in shards]
    assert {**rejected[0], **rejected[1]} == bad
    file = write_rejected(tmp_path, bad)
    lines = [line.split("\t") for line in file.read_text().splitlines()]
    assert dict(lines) == bad
    table = parquet.read_table(tmp_path / "rejected.parquet").to_pydict()
    assert dict(zip(table["path"], table["reason"], strict=True)) == bad


def test_whole_shard_is_left_alone_and_a_damaged_one_made_again(
    photos, embedder, tmp_path
):
    shard = corpus_shards(list_images(str(photos)), MODEL)[1]
    file = tmp_path / shard.name
    assert rejected_images(tmp_path, shard) is None
    embed_shard(embedder, MODEL, shard, tmp_path)
    whole = file.read_bytes()
    embed_shard(None, MODEL, shard, tmp_path)
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + b"damage" + whole[middle + 6 :])
    with pytest.raises(OSError, match=r"parquet' can't be read: .*Delete it"):
        read_shard(file, ["path", "embedding"])
    for damaged in (whole[:-20], b""):
        file.write_bytes(damaged)
        assert rejected_images(tmp_path, shard) is None
        embed_shard(embedder, MODEL, shard, tmp_path)
        assert file.read_bytes() == whole
    other = corpus_shards(list_images(str(photos)), MODEL)[0]
    file.rename(tmp_path / other.name)
    assert rejected_images(tmp_path, other) is None


def test_shard_of_bad_images_alone_has_no_rows(embedder, tmp_path):
    write_files(tmp_path, "1.png", "2.png")
    (shard,) = corpus_shards(list_images(str(tmp_path)), MODEL)
    embed_shard(embedder, MODEL, shard, tmp_path)
    assert len(rejected_images(tmp_path, shard)) == 2
    columns = read_shard(tmp_path / shard.name, ["path", "embedding", "code"])
    assert [len(column) for column in columns.values()] == [0, 0, 0]


def test_image_that_changes_after_it_was_listed_is_no_part_of_a_shard(
    photos, embedder, tmp_path
):
    images = list_images(str(photos))
    images.modified[220] += 1
    _, last = corpus_shards(images, MODEL)
    with pytest.raises(OSError, match=r"/b/220\.png' is not as it was"):
        embed_shard(embedder, MODEL, last, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_embedding_that_is_not_finite_is_named(photos, tmp_path):
    images = keras.Input((14, 14, 3))
    x = keras.layers.Flatten()(images)
    endless = keras.Model(images, keras.layers.Dense(8)(keras.ops.log(-1 - x)))
    shard = corpus_shards(list_images(str(photos)), MODEL)[1]
    with pytest.raises(FloatingPointError, match=r"of '.*/b/200\.png' is infinite or"):
        embed_shard(endless, MODEL, shard, tmp_path)


def record(**changes):
    fields = {**MODEL.about(), "images": 2, "shards": ("0-a.parquet",)}
    return Record(**{**fields, **changes})


def test_folder_of_another_corpus_is_refused(tmp_path):
    output = tmp_path / "deep" / "corpus"
    with corpus_folder(output, record()):
        assert read_record(output) == record()
        with (
            pytest.raises(OSError, match="another program is writing --output="),
            corpus_folder(output, record()),
        ):
            pass
    with corpus_folder(output, record()):
        pass

    def refused(reason, error=ValueError, **changes):
        with (
            pytest.raises(error, match=rf"--output=.* {reason}"),
            corpus_folder(output, record(**changes)),
        ):
            pass

    refused("was made with another model than --run", sha256="other")
    refused("was made with another model than --run", resize=17)
    refused("holds a corpus of 2 images; .* lists 3,", images=3, shards=("b", "c"))
    (output / RECORD_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"corpus\.json' is damaged"):
        read_record(output)
    (output / RECORD_FILE).rename(output / "notes.txt")
    refused("holds other files", FileExistsError)
    with pytest.raises(FileNotFoundError, match="holds no corpus"):
        read_record(output)


def test_missing_ray_is_said_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'pip install "keras_dml\[ray\]"'):
        check_ray()


def test_worker_that_sees_other_files_says_so(tmp_path):
    file = tmp_path / "embedding.keras"
    model = dataclasses.replace(MODEL, file=str(file))
    with pytest.raises(
        FileNotFoundError, match=r"^the machine .* of the cluster has no"
    ):
        Worker().load(model, tmp_path)
    file.touch()
    with pytest.raises(OSError, match=r"on the machine .* is another model"):
        Worker().load(model, tmp_path)


def test_address_without_a_cluster_is_refused_at_once():
    for address in ("nowhere", ":6379", "127.0.0.1:port"):
        with (
            pytest.raises(ValueError, match=r"--ray_address=.* is no address"),
            connected(address, None),
        ):
            pass
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with (
        pytest.raises(OSError, match=r"nothing answers at --ray_address='127.*refused"),
        connected(address, None),
    ):
        pass
