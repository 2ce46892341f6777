"""Recall@K of a corpus in parts, on Ray: bit for bit that of all at once."""

import importlib.util
import json

import numpy as np
import pytest

from experiments._corpus import recall
from experiments._corpus.list_images import ListedImages
from experiments._corpus.record import SHARDS
from experiments._corpus.record import Record
from experiments._corpus.record import corpus_folder
from experiments._corpus.shards import EmbedderFile
from experiments._corpus.shards import Shard
from experiments._corpus.shards import write_shard
from keras_dml.evaluation import binary_codes
from keras_dml.evaluation import recall_at_k
from tests.experiments.programs import run_program

pytest.importorskip("pyarrow.parquet", reason="shards are Parquet files")

MODEL = EmbedderFile("model.keras", "5e", dim=16, image_size=14, resize=16)
SIZES = (40, 1, 70, 55)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, sum(SIZES))
    rows = rng.normal(size=(20, 16))[labels] + rng.normal(size=(len(labels), 16))
    rows[:30] = rows[-30:]  # which tie across shards
    return rows.astype(np.float32), labels


@pytest.fixture(scope="module")
def corpus(rows, tmp_path_factory):
    embeddings, labels = rows
    output = tmp_path_factory.mktemp("evaluated") / "photos.corpus"
    starts = np.cumsum([0, *SIZES])
    shards = []
    for number, (start, size) in enumerate(zip(starts, SIZES, strict=False)):
        some = labels[start : start + size]
        images = ListedImages(
            [f"/photos/{start + row}.png" for row in range(size)],
            [f"class {label}" for label in some],
            np.ones(size, np.int64),
            np.ones(size, np.int64),
        )
        shards.append(Shard(f"{number:06}-{'0' * 24}.parquet", images))
    names = tuple(shard.name for shard in shards)
    record = Record(**MODEL.about(), images=len(labels), shards=names)
    with corpus_folder(str(output), record):
        for start, shard in zip(starts, shards, strict=False):
            some = embeddings[start : start + len(shard.images)]
            write_shard(output / SHARDS, shard, MODEL, some, {})
    return output


@pytest.fixture
def without_ray(monkeypatch):
    def in_turn(call, items):
        for item in items:
            function, *arguments = call(*item)
            yield item, function(*arguments)

    monkeypatch.setattr(recall, "_on_ray", in_turn)


@pytest.mark.parametrize("shards_of_a_part", [1, 2, 50])
def test_any_parts_give_the_figures_of_all_at_once(
    shards_of_a_part, corpus, rows, without_ray, monkeypatch
):
    monkeypatch.setattr(recall, "_SHARDS_OF_A_PART", shards_of_a_part)
    parts = recall.corpus_parts(sorted((corpus / SHARDS).iterdir()))
    assert len(parts) == -(-len(SIZES) // shards_of_a_part)
    embeddings, labels = rows
    for column, side in (("embedding", embeddings), ("code", binary_codes(embeddings))):
        expected = recall_at_k(side, labels)
        assert 0.1 < expected["recall@1"] < 0.95
        assert recall.corpus_recall(parts, column) == expected


def test_images_without_classes_are_refused(tmp_path):
    images = ListedImages(["a", "b"], ["", ""], np.ones(2, int), np.ones(2, int))
    write_shard(tmp_path, Shard("a.parquet", images), MODEL, np.ones((2, 16)), {})
    with pytest.raises(ValueError, match="2 images of 1 classes"):
        recall.corpus_parts([tmp_path / "a.parquet"])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
def test_program_measures_on_ray(corpus, rows, tmp_path):
    file = tmp_path / "figures.json"
    finished = run_program("evaluate_corpus", f"--corpus={corpus}", f"--output={file}")
    assert finished.returncode == 0, finished.stderr
    embeddings, labels = rows
    found = json.loads(file.read_text())
    assert found["images"] == len(labels)
    assert found["float"] == recall_at_k(embeddings, labels)
    assert found["binary"] == recall_at_k(binary_codes(embeddings), labels)
    assert f"R@1 {100 * found['float']['recall@1']:.1f}" in finished.stdout


def test_damaged_shard_is_named(corpus, tmp_path, without_ray):
    files = sorted((corpus / SHARDS).iterdir())
    damaged = tmp_path / files[0].name
    content = files[0].read_bytes()
    damaged.write_bytes(content)
    parts = recall.corpus_parts([damaged, *files[1:]])
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=f"{damaged.name}' can't be read"):
        recall.corpus_recall(parts, "embedding")
