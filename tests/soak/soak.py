"""Kills training runs at random moments and compares what comes out in the end.

Each case is a run of `experiments.train` in a folder of its own: one or two replicas,
one of the caches, with or without drawn classes. It is killed by SIGKILL in one phase
after the other, started again after each kill, and at last left to finish; then its
weights, `log.csv`, figures and TensorBoard's steps must equal, bit for bit, those of
the same run that was never killed. Phases are those of the program: it is told by the
functions that it enters (`PHASES`), and killed a random moment later. Run it with
`make soak`; `--kills` and `--seed` change what it does.
"""

import argparse
import collections
import importlib
import io
import itertools
import json
import os
import pathlib
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
import zipfile

import h5py
from tensorboard.backend.event_processing import event_file_loader

import keras_dml.data
import keras_dml.evaluation
import keras_dml.search
import keras_dml.serving
import keras_dml.training  # noqa: F401
from tests.experiments.programs import SMALL
from tests.experiments.programs import write_photos

# {phase: the function that the program enters then, the longest wait in seconds}
PHASES = {
    "data preparation": ("keras_dml.data._pipeline.batches", "read_all_images", 0.3),
    "frozen epochs": ("keras_dml.optimizers._multipliers.Multipliers", "freeze", 1.5),
    "training": ("keras_dml.optimizers._multipliers.Multipliers", "unfreeze", 1.0),
    "evaluation": ("keras_dml.evaluation.retrieval_evaluation", "embed_batches", 0.3),
    "checkpoint writing": ("keras_dml.training.resume", "write_checkpoint", 0.02),
    "export": ("keras_dml.serving", "export", 1.0),
    "report": ("keras_dml.training", "write_report", 0.5),
}

_CASES = [
    {"replicas": replicas, "cache": cache, "sampled_classes": sampled}
    for replicas in (1, 2)
    for cache in ("memory", "disk", "")
    for sampled in (1.0, 0.5)
]


def _arguments(case, photos, run):
    return [
        *SMALL,
        "--config.frozen_epochs=1",
        "--config.validation_classes=0.34",
        "--config.images_per_class=2",
        f"--config.cache={case['cache']}",
        f"--config.sampled_classes={case['sampled_classes']}",
        f"--logical_cpus={case['replicas'] if case['replicas'] > 1 else 0}",
        f"--data_dir={photos}",
        f"--output_dir={run}",
        "--checkpoint_minutes=0.003",
        "--config.nmi_starts=0",
    ]


def _start(arguments, tell, output):
    """Forks a process that runs the program and writes each phase to the pipe."""
    child = os.fork()
    if child:
        return child
    try:
        with open(output, "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        for phase, (place, name, _) in PHASES.items():
            call_when_entered(
                place, name, lambda phase=phase: os.write(tell, f"{phase}\n".encode())
            )
        sys.argv = ["experiments.train", *arguments]
        runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)


def call_when_entered(place, name, call):
    """Lets a function, a method of `place` or of that module, call something first."""
    module, _, kind = place.rpartition(".")
    if kind[0].isupper():
        home = getattr(importlib.import_module(module), kind)
    else:
        home = importlib.import_module(place)
    function = getattr(home, name)

    def called(*args, **kwargs):
        call()
        return function(*args, **kwargs)

    setattr(home, name, called)


def _run_and_kill(arguments, phase, entry, rng, output):
    """Starts the program; kills it in a phase, at its `entry`-th entry.

    Returns:
        Whether it was killed; it may have finished before.
    """
    heard, tell = os.pipe()
    child = _start(arguments, tell, output)
    os.close(tell)
    with os.fdopen(heard) as lines:
        for line in lines:
            if line.strip() == phase:
                entry -= 1
                if entry == 0:
                    time.sleep(rng.uniform(0, PHASES[phase][2]))
                    os.kill(child, signal.SIGKILL)
                    break
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"the program failed:\n{output.read_text()[-3000:]}")
    return False


def outcome(run):
    """What must be the same however often a run was killed."""
    metrics = json.loads((run / "metrics.json").read_text())
    times = [key for key in metrics.get("index", {}) if "ms_per" in key]
    for key in times:
        del metrics["index"][key]
    metrics.get("index", {}).pop("calibration", None)
    return {
        "weights": _weights(run / "embedding.keras"),
        "log.csv": (run / "log.csv").read_text(),
        "metrics.json": metrics,
        "TensorBoard": _steps_of_events(run / "tensorboard"),
        "files": sorted(path.name for path in run.iterdir()),
    }


def _weights(file):
    """Reads them without TensorFlow, which a process that forks can't have started."""
    weights = {}
    with zipfile.ZipFile(file) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as store:
        store.visititems(
            lambda name, item: weights.update(
                {name: item[()].tobytes()} if isinstance(item, h5py.Dataset) else {}
            )
        )
    return weights


def _steps_of_events(folder):
    steps = collections.defaultdict(list)
    for file in sorted(folder.rglob("events.*")):
        for event in event_file_loader.EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                number = value.tensor.SerializeToString()
                steps[value.tag].append((event.step, number))
    return {tag: sorted(found) for tag, found in steps.items()}


def main() -> None:
    """Prints kills by phase, and ends with 1 where a run came out otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="in all, at least")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    kills = collections.Counter()
    differ = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        photos = write_photos(folder / "photos", classes=9)
        for number, case in enumerate(_CASES):
            os.environ["KERAS_DML_CACHE"] = str(folder / f"cache-{number}")
            whole, killed = folder / f"whole-{number}", folder / f"killed-{number}"
            output = folder / f"output-{number}"
            _run_and_kill(_arguments(case, photos, whole), None, 0, rng, output)
            shutil.rmtree(folder / f"cache-{number}", ignore_errors=True)
            share = -(-options.kills // len(_CASES))
            # Without a cache nothing is prepared.
            phases = itertools.cycle(list(PHASES)[not case["cache"] :])
            # Not all cases begin with the same phases.
            for _ in range(number):
                next(phases)
            while share > 0:
                phase = next(phases)
                often = phase in ("training", "evaluation", "checkpoint writing")
                entry = rng.choice((1, 2, 3)) if often else 1
                if _run_and_kill(
                    _arguments(case, photos, killed), phase, entry, rng, output
                ):
                    kills[phase] += 1
                    share -= 1
                else:  # It had finished before; another one begins.
                    _check_same(whole, killed, case, differ)
                    shutil.rmtree(killed)
                    shutil.rmtree(folder / f"cache-{number}", ignore_errors=True)
            _run_and_kill(_arguments(case, photos, killed), None, 0, rng, output)
            _check_same(whole, killed, case, differ)
            print(f"{case}: {sum(kills.values())} kills so far", flush=True)
    print(f"\n{'phase':20s} kills")
    for phase in PHASES:
        print(f"{phase:20s} {kills[phase]:5d}")
    print(f"{'in all':20s} {kills.total():5d}, {time.monotonic() - started:.0f} s")
    if differ:
        print("came out otherwise:", *differ, sep="\n  ")
        sys.exit(1)
    print("every run came out bit for bit as if it had not been killed")


def _check_same(whole, killed, case, differ):
    expected, found = outcome(whole), outcome(killed)
    differ.extend(
        f"{case}: {name}" for name in expected if expected[name] != found[name]
    )


if __name__ == "__main__":
    main()
