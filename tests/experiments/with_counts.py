"""Runs a program with other counts than the official ones, for miniature archives.

python -m tests.experiments.with_counts LOADER COUNTS_AS_JSON PROGRAM [--flags]
"""

import importlib
import json
import runpy
import sys

import experiments  # noqa: F401  TensorFlow, without its start-up messages

if __name__ == "__main__":
    _, loader, counts, program, *flags = sys.argv
    module = importlib.import_module(f"keras_dml.data.datasets.{loader}")
    module.OFFICIAL_COUNTS = json.loads(counts)
    sys.argv = [program, *flags]
    runpy.run_module(f"experiments.{program}", run_name="__main__", alter_sys=True)
