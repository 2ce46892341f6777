"""What a checkpoint costs, beside Keras's `BackupAndRestore`, as a share of a run.

The model is that of the paper on Stanford Online Products: ResNet-50, 512 dimensions,
11,318 classes, SGD with momentum. Images are tiny, as only what is added to a step
counts. Run it with `make benchmark-checkpoints`, which writes the table into
BENCHMARKS.md; `--rounds=1` only prints one.
"""

import argparse
import pathlib
import tempfile
import textwrap

import keras
import numpy as np

import keras_dml
from tests.benchmarks.alternating_medians import alternating_medians
from tests.benchmarks.alternating_medians import pin_threads
from tests.benchmarks.machine import machine
from tests.benchmarks.measured_section import write_measured

_CLASSES = 11_318
_STEPS = 3
_ROUNDS = 5
_MINUTES = 5  # the default of `Resume` and of --checkpoint_minutes


def _model():
    trunk = keras_dml.models.trunk("resnet50", (32, 32, 3))
    embedder = keras_dml.models.embedding_model(trunk, dim=512)
    logits = keras_dml.layers.NormalizedSoftmax(_CLASSES)(embedder.output)
    model = keras.Model(embedder.input, logits)
    model.compile(
        keras_dml.optimizers.SGD(1e-6, momentum=0.9, l2=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def _batches():
    labels = np.arange(3 * _STEPS) % 3
    x = np.random.default_rng(0).integers(0, 256, (len(labels), 32, 32, 3), np.uint8)
    return keras_dml.data.class_balanced_batches((x, labels), 3, 1)


def _bytes(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _measure(rounds, folder):
    """A table of what each adds to a step, in seconds, MB and share of the interval."""
    model, batches = _model(), _batches()

    def fit(*callbacks):
        model.fit(batches, verbose=0, shuffle=False, callbacks=list(callbacks))

    def resume():
        # A new folder each time, or a finished fit does nothing.
        with tempfile.TemporaryDirectory(dir=folder) as name:
            fit(keras_dml.training.Resume(f"{name}/ours", batches, minutes=0))
            sizes["Resume"] = _bytes(pathlib.Path(name)) / 2  # two are kept

    def backup():
        with tempfile.TemporaryDirectory(dir=folder) as name:
            fit(
                keras.callbacks.BackupAndRestore(
                    name, save_freq=1, delete_checkpoint=False
                )
            )
            sizes["BackupAndRestore"] = _bytes(pathlib.Path(name))

    sizes: dict[str, float] = {}
    contestants = {"no checkpoint": fit, "Resume": resume, "BackupAndRestore": backup}
    seconds = alternating_medians(contestants, rounds)
    written = {"Resume": _STEPS + 1, "BackupAndRestore": _STEPS}
    lines = [
        f"| | MB | seconds a checkpoint | share of a run at one every {_MINUTES} min |",
        "| --- | --- | --- | --- |",
    ]
    for name, count in written.items():
        cost = (seconds[name] - seconds["no checkpoint"]) / count
        lines.append(
            f"| {name} | {sizes[name] / 1e6:.0f} | {cost:.2f} | "
            f"{100 * cost / (60 * _MINUTES):.2f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures and prints, and writes BENCHMARKS.md where all rounds were made."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    options = parser.parse_args()
    pin_threads()
    with tempfile.TemporaryDirectory() as name:
        table = _measure(options.rounds, pathlib.Path(name))
    print(table)
    if options.rounds < _ROUNDS:
        return
    note = f"`make benchmark-checkpoints`; medians of {_ROUNDS} alternating rounds on "
    note += machine("tensorflow", "keras")
    write_measured("checkpoints", f"{table}\n\n{textwrap.fill(note, 88)}.")


if __name__ == "__main__":
    main()
