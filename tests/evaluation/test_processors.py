import os
import subprocess
import sys
import threading

import pytest

from keras_dml.evaluation._ranking import counting
from keras_dml.evaluation._ranking import processors


@pytest.fixture
def on_eight(monkeypatch, tmp_path):
    """Eight processors, and control groups in `tmp_path` / "groups"."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), False)
    monkeypatch.setattr(processors, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(processors, "_OWN_CGROUPS", tmp_path / "own")
    return tmp_path


def write(folder, own, files):
    (folder / "own").write_text(own)
    for name, content in files.items():
        file = folder / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
        # A limit above binds the groups below it.
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "100 50"}, 2),
        ("0::/a\n", {"b/cpu.max": "100000 100000"}, 8),
        # The host's path, seen in a container.
        ("0::/pod/7\n", {"cpu.max": "400000 100000"}, 4),
        (
            "5:memory:/x\n4:cpu,cpuacct:/x\n0::/\n",
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/x/cpu.cfs_period_us": "50000\n",
            },
            5,
        ),
        (
            "1:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            8,
        ),
        ("1:cpuset:/\n", {"cpuset/cpu.max": "100000 100000"}, 8),
    ],
)
def test_limit_of_the_control_group_is_kept(on_eight, own, files, expected):
    write(on_eight, own, files)
    assert processors.usable_processors() == expected


def test_affinity_counts_where_there_are_no_control_groups(on_eight):
    assert processors.usable_processors() == 8


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone")
def test_process_bound_to_one_processor_may_use_one():
    program = """
import os, runpy, sys
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
print(runpy.run_path(sys.argv[1])["usable_processors"]())
"""
    finished = subprocess.run(
        [sys.executable, "-c", program, processors.__file__],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert finished.stdout == "1\n"


def test_as_many_workers_as_processors(monkeypatch):
    monkeypatch.setattr(counting, "usable_processors", lambda: 3)
    together = threading.Barrier(3, timeout=60)
    waited = counting.in_parallel(lambda item: together.wait(), range(3))
    assert sorted(waited) == [0, 1, 2]
