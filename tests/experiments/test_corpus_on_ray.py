"""Embedding a corpus on Ray: on this machine alone, and on three that come and go."""

import collections
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types

import keras
import numpy as np
import pytest
from PIL import Image

from experiments._corpus import workers
from experiments._corpus.cluster import connected
from experiments._corpus.embed_shard import embed_shard
from experiments._corpus.list_images import list_images
from experiments._corpus.record import sha256_of_file
from experiments._corpus.shards import EmbedderFile
from experiments._corpus.shards import corpus_shards
from keras_dml import data
from keras_dml import evaluation
from keras_dml import models
from tests.experiments.programs import ROOT

# Read when Ray is imported; it listens on loopback alone then.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

parquet = pytest.importorskip("pyarrow.parquet", reason="shards are Parquet files")
pytest.importorskip("ray", reason="the workers are Ray's")

pytestmark = pytest.mark.slow

SHARDS = 6
BAD = 1234


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The folder of a run, and images for six shards, one of which is none."""
    root = tmp_path_factory.mktemp("corpus")
    (root / "run").mkdir()
    keras.utils.set_random_seed(0)
    embedder = models.embedding_model(models.trunk("conv4", (28, 28, 3)), 20)
    embedder.save(root / "run" / "embedding.keras")
    (root / "run" / "config.json").write_text('{"resize": 32}')
    rng = np.random.default_rng(0)
    (root / "photos").mkdir()
    kinds = 97
    for row in range(1000 * SHARDS - 300):
        file = root / "photos" / f"{row:05}.png"
        if row == BAD:
            file.write_text("no image")
        elif row < kinds:
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(file)
        else:
            file.hardlink_to(root / "photos" / f"{row**2 % kinds:05}.png")
    return root, embedder


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    """{name: bytes} of the shards as this process alone writes them."""
    root, embedder = corpus
    file = str(root / "run" / "embedding.keras")
    model = EmbedderFile(file, sha256_of_file(file), 20, 28, 32)
    folder = tmp_path_factory.mktemp("alone")
    for shard in corpus_shards(list_images(str(root / "photos")), model):
        embed_shard(embedder, model, shard, folder)
    return contents(folder)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def command(root, output, *arguments):
    return [
        *(sys.executable, "-m", "experiments.embed_corpus"),
        *(f"--run={root / 'run'}", f"--images={root / 'photos'}"),
        *(f"--output={output}", *arguments),
    ]


def run(*arguments):
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def started(*arguments):
    return subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(is_so, process):
    end = time.monotonic() + 480  # each worker loads TensorFlow
    while not is_so():
        assert process.poll() is None, process.communicate()
        if time.monotonic() > end:
            process.kill()
            pytest.fail(f"it does not come: {process.communicate()}")
        time.sleep(0.25)  # Each look reads of every process there is.


def processes():
    """{pid: (parent, title)} of all that run."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            title = title.strip()
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            if status[0] != "Z":
                found[int(folder.name)] = int(status[1]), title
    return found


def children(pid):
    """{pid: title} of all processes below one."""
    every = processes()
    parents, below = {pid}, {}
    while parents:
        found = {
            child: title for child, (above, title) in every.items() if above in parents
        }
        below |= found
        parents = found.keys()
    return below


def shards(output):
    return list((output / "shards").glob("*.parquet"))


def test_program_that_is_killed_goes_on_and_ends_as_one_process_does(
    corpus, alone, tmp_path
):
    root, embedder = corpus
    output = tmp_path / "corpus"
    process = started(root, output, "--workers=2")
    wait_until(lambda: shards(output), process)
    below = children(process.pid)
    assert sum(title.startswith("ray::Worker") for title in below.values()) == 2
    process.kill()
    process.communicate()
    there = {file: file.stat().st_mtime_ns for file in shards(output)}
    assert len(there) < SHARDS
    # Ray's agents, which do no work, notice it a minute later.
    agents = {pid for pid, title in below.items() if title.endswith("Agent")}
    end = time.monotonic() + 60
    while left := processes().keys() & below.keys() - agents:
        assert time.monotonic() < end, [below[pid] for pid in left]
        time.sleep(0.1)
    send(signal.SIGKILL, agents)
    (folder,) = set(re.findall(r"/tmp/ray\w+", " ".join(below.values())))
    shutil.rmtree(folder)

    finished = run(root, output, "--workers=2")
    assert finished.returncode == 0, finished.stderr
    assert " of 6 shards are there.\nEmbedding " in finished.stdout
    assert " images/s: " in finished.stdout
    assert "corpus: 5,699 images embedded.\n1 can't be read; " in finished.stdout
    assert contents(output / "shards") == alone
    for file, modified in there.items():
        assert file.stat().st_mtime_ns == modified
    (line,) = (output / "rejected.txt").read_text().splitlines()
    assert line.startswith(f"{root}/photos/01234.png\tit is no JPEG, PNG")

    whole = parquet.read_table(output / "shards").to_pydict()
    paths = sorted(map(str, (root / "photos").iterdir()))
    images = data.ImageDataset(paths, [0] * len(paths), ("",))
    images = images.with_replaced([paths[BAD]])
    expected = evaluation.embed(embedder, images, 32, verbose=0)
    assert whole["path"] == [*paths[:BAD], *paths[BAD + 1 :]]
    found = np.array(whole["embedding"], np.float32)
    np.testing.assert_array_equal(found, np.delete(expected, BAD, axis=0))

    again = run(root, output)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("6 of 6 shards are there.\n")
    assert contents(output / "shards") == alone


@contextlib.contextmanager
def cluster_of_three():
    """The cluster, its nodes, and a function that adds one."""
    from ray.cluster_utils import Cluster

    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Where Cluster writes its address, into a folder that it expects.
        patch.setenv("RAY_TMPDIR", folder)
        pathlib.Path(folder, "ray").mkdir()
        settings = {
            "num_cpus": 1,
            "object_store_memory": 80 * 2**20,
            "include_dashboard": False,
            "temp_dir": folder,
        }
        cluster = Cluster(initialize_head=True, head_node_args=settings)
        try:
            nodes = [cluster.head_node, *(cluster.add_node(**settings) for _ in "12")]
            yield cluster, nodes, lambda: cluster.add_node(**settings)
        finally:
            cluster.shutdown()


def raylet(node):
    return node.all_processes["raylet"][0].process.pid


def at_work(node):
    """The processes of workers on a node that embed a shard."""
    below = children(raylet(node)).items()
    return [pid for pid, title in below if title.startswith("ray::Worker.embed")]


def send(number, pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def test_nothing_is_lost_or_double_where_one_machine_dies_and_one_comes(
    corpus, alone, tmp_path
):
    root, _ = corpus
    output = tmp_path / "corpus"
    with cluster_of_three() as (cluster, nodes, add_node):
        process = started(root, output, f"--ray_address={cluster.address}")
        try:
            dying, *others = reversed(nodes)
            wait_until(lambda: at_work(dying) and shards(output), process)
            # So that there is work left for the machine that comes.
            stopped = [pid for node in others for pid in at_work(node)]
            send(signal.SIGSTOP, stopped)
            # As when its power fails: all at once, and nobody says goodbye.
            send(signal.SIGKILL, [*children(raylet(dying)), raylet(dying)])
            assert len(shards(output)) < SHARDS
            cluster.remove_node(dying, allow_graceful=False)
            added = add_node()
            wait_until(lambda: at_work(added), process)
            send(signal.SIGCONT, stopped)
            said, complained = process.communicate(timeout=480)
        finally:
            process.kill()
            process.communicate()
    assert process.returncode == 0, complained
    assert "5,699 images embedded.\n1 can't be read; " in said
    assert contents(output / "shards") == alone


def test_work_of_a_worker_that_ends_is_done_by_another(tmp_path, monkeypatch):
    class Worker:
        """One that writes the name of its process in place of embeddings."""

        def load(self, model, folder):
            self.folder = folder

        def embed(self, shard):
            file = self.folder / shard.name
            if shard.name == "deadly" or (
                shard.name == "deadly once" and not file.exists()
            ):
                file.touch()
                os._exit(1)
            if shard.name == "wrong":
                raise ValueError("it is wrong.")
            file.write_text(str(os.getpid()))

    def shard(name):
        paths = [f"{name} {place}.png" for place in ("first", "last")]
        return types.SimpleNamespace(
            name=name, images=types.SimpleNamespace(paths=paths)
        )

    def work(*names):
        done = []
        workers.embed_on_ray(
            [*map(shard, names)],
            None,
            tmp_path,
            2,
            lambda one, _: done.append(one.name),
        )
        return sorted(done)

    monkeypatch.setattr(workers, "Worker", Worker)
    monkeypatch.setattr(workers, "_SHARDS_OF_A_WORKER", 3)
    with connected(None, 2):
        names = sorted(["deadly once", *map(str, range(9))])
        assert work(*names) == names
        at_work = collections.Counter((tmp_path / name).read_text() for name in names)
        assert max(at_work.values()) <= 3
        with pytest.raises(
            OSError, match=r"^4 workers .* 'deadly first\.png' to 'deadly l"
        ):
            work("1", "deadly")
        with pytest.raises(ValueError, match=r"^it is wrong\.$"):
            work("1", "wrong")
