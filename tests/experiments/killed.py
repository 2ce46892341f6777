"""Runs `experiments.train` and kills it as it enters a phase.

python -m tests.experiments.killed PHASE ENTRY --config=…
"""

import os
import runpy
import signal
import sys

from tests.soak.soak import PHASES
from tests.soak.soak import call_when_entered

phase, entry = sys.argv[1], int(sys.argv[2])


def kill_at_entry():
    global entry
    entry -= 1
    if entry == 0:
        os.kill(os.getpid(), signal.SIGKILL)


place, name, _ = PHASES[phase]
call_when_entered(place, name, kill_at_entry)
sys.argv = ["experiments.train", *sys.argv[3:]]
runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
