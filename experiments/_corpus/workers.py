"""Workers on Ray, each with a model of its own, and the loop that gives them shards."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from collections.abc import Sequence

import tensorflow as tf

from experiments._corpus.record import sha256_of_file
from experiments._corpus.shards import EmbedderFile
from experiments._corpus.shards import Shard

_SHARDS_OF_A_WORKER = 500
"""After as many a worker is replaced, as each data set leaves some memory behind."""

_LOST_WITH_ONE_SHARD = 4
_LOST_IN_A_ROW_WHILE_LOADING = 8
_SECONDS_BETWEEN_LOOKS = 1.0


class Worker:
    """What runs in a process of its own, on any machine of the cluster."""

    def load(self, model: EmbedderFile, folder: str) -> None:
        """Loads the model, on the worker's GPU or for the one core that it has.

        Raises:
            OSError: if the files on this machine are not those of the program's.
            ValueError: if the model can't be loaded.
        """
        import os
        import platform

        import keras

        from experiments._lib.load_run import load_embedder

        for file in (model.file, folder):
            if not os.path.exists(file):
                raise FileNotFoundError(
                    f"the machine {platform.node()} of the cluster has no {file!r}. "
                    "The run, the images and the output must be under the same paths "
                    "on all machines."
                )
        if sha256_of_file(model.file) != model.sha256:
            raise OSError(
                f"{model.file!r} on the machine {platform.node()} is another model."
            )
        if keras.backend.backend() != "tensorflow":
            tf.config.set_visible_devices([], "GPU")
        elif tf.config.list_physical_devices("GPU"):
            # So that the same images give the same bytes there too.
            tf.config.experimental.enable_op_determinism()
        else:
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(2)
        self._embedder = load_embedder(model.file)
        self._model, self._folder = model, folder

    def embed(self, shard: Shard) -> None:
        """Writes a shard, as `embed_shard` does."""
        from experiments._corpus.embed_shard import embed_shard

        embed_shard(self._embedder, self._model, shard, self._folder)


def embed_on_ray(
    shards: Sequence[Shard],
    model: EmbedderFile,
    folder: str,
    workers: int | None,
    done: Callable[[Shard, int], None],
) -> None:
    """Has the workers of the cluster that Ray is connected to write all shards.

    A worker has one shard at a time. Where one is lost, with its machine or by itself,
    its shard goes to another. Workers are hired as long as there is work for them and
    the cluster has room, so those of a machine that comes later are used.

    Args:
        shards: to write; those that are there already are left as they are.
        model: to embed with.
        folder: to write to, seen by all machines under the same path.
        workers: how many at most; None: one a GPU, or where the cluster has none, one a
            CPU.
        done: is called with each shard that is there, and how many workers there are.

    Raises:
        OSError: if a worker sees other files than this process, a shard loses its
            workers again and again, or none can be started.
        ValueError, FloatingPointError, OSError: what a worker raises.
    """
    crew = _Crew(shards, model, folder, workers, done)
    try:
        crew.work()
    finally:
        crew.leave()


class _Crew:
    def __init__(self, shards, model, folder, workers, done):
        self._waiting = collections.deque(shards)
        self._settings = model, folder
        self._most = workers
        self._done = done
        self._tasks = {}  # what each worker is at: {task: (worker, shard or None)}
        self._shards_of = collections.Counter()
        self._lost_with = collections.Counter()
        self._lost_while_loading = 0

    def work(self):
        import ray

        looked = -float("inf")
        while self._waiting or any(shard for _, shard in self._tasks.values()):
            if time.monotonic() - looked > _SECONDS_BETWEEN_LOOKS:
                self._hire()
                looked = time.monotonic()
            if not self._tasks:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                continue
            ready, _ = ray.wait(list(self._tasks), timeout=_SECONDS_BETWEEN_LOOKS)
            for task in ready:
                self._receive(task)

    def leave(self):
        import ray

        for worker, _ in self._tasks.values():
            ray.kill(worker)

    def _hire(self):
        import ray

        room = ray.cluster_resources()
        kind = "GPU" if room.get("GPU", 0) >= 1 else "CPU"
        most = int(room.get(kind, 0))
        if self._most is not None:
            most = min(most, self._most)
        busy = sum(shard is not None for _, shard in self._tasks.values())
        need = min(most, busy + len(self._waiting))
        options = {"num_gpus": 1, "num_cpus": 0} if kind == "GPU" else {"num_cpus": 1}
        for _ in range(len(self._tasks), need):
            worker = ray.remote(Worker).options(**options).remote()
            self._tasks[worker.load.remote(*self._settings)] = worker, None

    def _receive(self, task):
        import ray

        worker, shard = self._tasks.pop(task)
        try:
            ray.get(task)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            self._lose(worker, shard, error)
            return
        self._lost_while_loading = 0
        if shard is not None:
            self._shards_of[worker] += 1
            self._done(shard, len(self._tasks) + 1)
        if self._waiting and self._shards_of[worker] < _SHARDS_OF_A_WORKER:
            shard = self._waiting.popleft()
            self._tasks[worker.embed.remote(shard)] = worker, shard
        else:
            del self._shards_of[worker]
            ray.kill(worker)

    def _lose(self, worker, shard, error):
        import ray

        ray.kill(worker)  # Where it only can't be reached.
        del self._shards_of[worker]
        lines = str(error).strip().splitlines()
        reason = f"{lines[0]} {lines[-1].strip() if lines[1:] else ''}".strip()
        if shard is None:
            self._lost_while_loading += 1
            if self._lost_while_loading == _LOST_IN_A_ROW_WHILE_LOADING:
                raise OSError(f"Ray can't start a worker: {reason}")
            return
        self._waiting.appendleft(shard)
        self._lost_with[shard.name] += 1
        if self._lost_with[shard.name] == _LOST_WITH_ONE_SHARD:
            first, last = shard.images.paths[0], shard.images.paths[-1]
            raise OSError(
                f"{_LOST_WITH_ONE_SHARD} workers ended in the midst of the same "
                f"images, {first!r} to {last!r}, the last of them so: {reason} They "
                "may need more memory than there is, or one of them ends the process."
            )
