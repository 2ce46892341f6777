"""Runs `experiments.train` and sends it a signal as it enters a phase.

python -m tests.experiments.killed SIGNAL PHASE ENTRY --config=…

SIGNAL is SIGKILL or another, PHASE one of the soak's or "measuring before training".
"""

import os
import runpy
import signal
import sys

from tests.soak.soak import PHASES
from tests.soak.soak import call_when_entered

MEASURING = {
    "measuring before training": ("keras_dml.evaluation", "embed_query_and_gallery", 0)
}
number, phase, entry = signal.Signals[sys.argv[1]], sys.argv[2], int(sys.argv[3])


def signal_at_entry():
    global entry
    entry -= 1
    if entry == 0:
        os.kill(os.getpid(), number)


place, name, _ = {**PHASES, **MEASURING}[phase]
call_when_entered(place, name, signal_at_entry)
sys.argv = ["experiments.train", *sys.argv[4:]]
runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
