import pathlib
import statistics
import subprocess
import sys

import pytest

from keras_dml._ops import IS_KERAS_2

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = pathlib.Path(__file__).with_name("measure_memory.py")


@pytest.mark.slow
@pytest.mark.skipif(IS_KERAS_2, reason="Resume needs Keras 3")
@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="Linux alone")
def test_memory_is_flat_over_200_epochs_measured_and_saved(tmp_path):
    finished = subprocess.run(
        [sys.executable, PROGRAM, tmp_path, "200"],
        env={"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert finished.returncode == 0, finished.stderr
    mib = [float(line) for line in finished.stdout.splitlines() if line[0].isdigit()]
    assert len(mib) == 200
    # Single epochs differ by some 10 MiB, as the allocator takes and gives back.
    assert statistics.median(mib[-20:]) < 1.05 * statistics.median(mib[40:60])
