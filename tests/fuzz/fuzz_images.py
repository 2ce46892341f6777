"""Damaged image files through the loader, the checker and an exported model.

`make fuzz`, or with other flags:

    python -m tests.fuzz.fuzz_images --files=100000 --seed=0 --seconds=720

A process of its own reads them, so that a crash is counted, its file kept in
`fuzz_failures/`, and the run goes on. In each round the exported model, whose embedding
is its pixels, says which files are read; `check_images` must count the same ones
as unreadable, and `ImageDataset.images` must give each of the others, and a sound image
between any two, the pixels that the model saw. Ends with 1 after a crash, a hang (no
answer in 20 s) or a wrong answer.
"""

import argparse
import collections
import contextlib
import io
import json
import os
import pathlib
import re
import selectors
import subprocess
import sys
import tempfile
import time

from tests.fuzz.mutations import image_files
from tests.fuzz.mutations import mutated

_ROUND = 500
_PATIENCE = 20
_FAILURES = pathlib.Path("fuzz_failures")
_SIDE, _RESIZE = 28, 32


def _work(folder):
    """Reads rounds of paths from stdin; answers on stdout, a line a file."""
    import keras
    import numpy as np
    import tensorflow as tf
    from PIL import Image

    from keras_dml.data import ImageDataset
    from keras_dml.data import check_images
    from keras_dml.serving import export
    from tests.benchmarks.peak_memory import resident_mib

    # One file is served at a time: threads would only wake each other.
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values):
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    pixels = keras.Input((_SIDE, _SIDE, 3))
    export(keras.Model(pixels, keras.layers.Flatten()(pixels)), f"{folder}/1", _RESIZE)
    served = tf.saved_model.load(f"{folder}/1").signatures["serving_default"]

    def serve(path):
        encoded = tf.constant([pathlib.Path(path).read_bytes()])
        outputs = served(encoded=encoded)
        return outputs["embedding"].numpy()[0] if outputs["valid"][0] else None

    sound = []
    for level in range(0, 256, 25):
        sound.append(f"{folder}/sound{level}.png")
        Image.new("RGB", (40, 30), (level, 255 - level, 7)).save(sound[-1])
    sound_pixels = [serve(path) for path in sound]
    answer(ready=True)
    for line in sys.stdin:
        rows = []
        for path in json.loads(line):
            rows.append(serve(path))
            answer(read=rows[-1] is not None)
        paths, expected = [], []
        for number, (path, row) in enumerate(zip(json.loads(line), rows, strict=True)):
            paths += [path, sound[number % len(sound)]]
            expected += [row, sound_pixels[number % len(sound)]]
        names = [str(number) for number in range(len(paths))]
        whole = ImageDataset(paths, np.arange(len(paths)), names)
        unreadable = sum(row is None for row in rows)
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                check_images(whole)
                counted = 0
            except ValueError as error:
                counts = re.match(r"Cannot read ([\d,]+) of", str(error))
                counted = int(counts[1].replace(",", "")) if counts else 1
        wanted = [row is not None for row in expected]
        expected = [row for row in expected if row is not None]
        labels = np.arange(len(expected))
        readable = ImageDataset(np.array(paths)[wanted], labels, names[: len(expected)])
        images = np.concatenate(list(readable.images(_SIDE, _RESIZE, batch_size=64)))
        right = [
            np.array_equal(image.ravel(), expected[label])
            for image, label in zip(images, readable.labels, strict=True)
        ]
        answer(wrong=right.count(False) + abs(counted - unreadable), mib=resident_mib())


class _Reader:
    """The process that reads, started anew after each crash."""

    def __init__(self, folder):
        self._folder = tempfile.mkdtemp(dir=folder)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.fuzz_images", "--work", self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(f"{self._folder}/errors", "wb"),  # noqa: SIM115
            # oneDNN's allocator keeps what the largest image took, and hides leaks.
            env={
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "TF_ENABLE_ONEDNN_OPTS": "0",
            },
        )
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._process.stdout, selectors.EVENT_READ)
        self._lines = b""
        if self.answer(600) in ("crashed", "hung"):
            sys.exit("The process that reads did not start.")

    def send(self, paths):
        self._process.stdin.write((json.dumps(paths) + "\n").encode())
        self._process.stdin.flush()

    def answer(self, patience=_PATIENCE):
        """What it says next, or "crashed" or "hung"."""
        while b"\n" not in self._lines:
            if not self._ready.select(patience):
                return "hung"
            piece = os.read(self._process.stdout.fileno(), 2**16)
            if not piece:
                return "crashed"
            self._lines += piece
        line, _, self._lines = self._lines.partition(b"\n")
        return json.loads(line)

    def last_words(self):
        file = pathlib.Path(self._folder, "errors")
        return "\n".join(file.read_text(errors="replace").splitlines()[-3:])

    def end(self):
        self._process.kill()
        self._process.wait()
        self._ready.close()
        self._process.stdin.close()
        self._process.stdout.close()


def _read_round(reader, kinds, paths, counts):
    """How many files were answered, and "crashed", "hung" or the last answer."""
    reader.send(paths)
    for done, kind in enumerate(kinds):
        said = reader.answer()
        if isinstance(said, str):
            counts[kind, said] += 1
            return done, said
        counts[kind, "read" if said["read"] else "refused"] += 1
    return len(paths), reader.answer(10 * _PATIENCE)


def main():
    """Prints counts by format, and the memory at each tenth of the way."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--files", type=int, default=100_000)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--seconds", type=float, default=720)
    flags.add_argument("--work", help=argparse.SUPPRESS)
    flags = flags.parse_args()
    if flags.work:
        return _work(flags.work)
    import keras

    files, counts, memory, bad = image_files(), collections.Counter(), [], 0
    progress = keras.utils.Progbar(flags.files, unit_name="file")
    end, number = time.monotonic() + flags.seconds, 0
    with tempfile.TemporaryDirectory() as folder:
        reader = _Reader(folder)
        while number < flags.files and time.monotonic() < end:
            kinds, paths = [], []
            for place in range(min(_ROUND, flags.files - number)):
                kind, content = mutated(files, number + place, flags.seed)
                path = pathlib.Path(folder, f"{place}.image")
                path.write_bytes(content)
                kinds.append(kind)
                paths.append(str(path))
            done, said = _read_round(reader, kinds, paths, counts)
            number += done
            if isinstance(said, str):
                bad += 1
                _FAILURES.mkdir(exist_ok=True)
                # In the round's second half any file may have been the one.
                for place in (
                    range(done, done + 1) if done < len(paths) else range(done)
                ):
                    kept = _FAILURES / f"{said}_{flags.seed}_{number - done + place}"
                    kept.write_bytes(pathlib.Path(paths[place]).read_bytes())
                number += done < len(paths)
                reader.end()
                print(f"\n{said} at file {number}:\n{reader.last_words()}")
                reader = _Reader(folder)
            else:
                bad += said["wrong"]
                memory.append(said["mib"])
            progress.update(number, finalize=False)
        reader.end()
    progress.update(number, finalize=True)
    columns = ("read", "refused", "crashed", "hung")
    print(f"{number:,} files, seed {flags.seed}")
    print("| format | files | read | refused | crashed | hung |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind in sorted({kind for kind, _ in counts}):
        row = [counts[kind, column] for column in columns]
        cells = " | ".join(f"{count:,}" for count in (sum(row), *row))
        print(f"| {kind} | {cells} |")
    if memory:
        ends = [memory[(len(memory) - 1) * tenth // 10] for tenth in range(11)]
        numbers = ", ".join(f"{mib:.0f}" for mib in ends)
        print(f"MiB of the process that reads, at each tenth: {numbers}")
    print(f"failures and wrong answers: {bad}")
    sys.exit(int(bad > 0))


if __name__ == "__main__":
    main()
