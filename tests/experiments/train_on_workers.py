"""Runs `experiments.train` on two workers, of which one may get a signal.

python train_on_workers.py FOLDER SIGNAL WORKER BATCH --config=…

SIGNAL is SIGKILL, SIGTERM or none, which WORKER gets at the end of its BATCH-th batch.
FOLDER gets what the workers print. Prints JSON: their exit codes, and the seconds from
the signal to the end of the last.
"""

import json
import os
import pathlib
import runpy
import signal
import sys
import time

from tests.soak.soak import call_when_entered
from tests.workers import run_workers


def main(folder, number, signaled, batch, *arguments):
    told = pathlib.Path(folder) / "signaled"

    def work(worker):
        if number != "none" and worker == int(signaled):
            left = int(batch)

            def count_down():
                nonlocal left
                left -= 1
                if left == 0:
                    told.touch()
                    os.kill(os.getpid(), signal.Signals[number])

            call_when_entered(
                "keras_dml.training.resume.Resume", "on_train_batch_end", count_down
            )
        sys.argv = ["experiments.train", *arguments]
        runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)

    codes, _ = run_workers(work, folder)
    seconds = time.time() - told.stat().st_mtime if told.exists() else None
    print(json.dumps({"codes": codes, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
