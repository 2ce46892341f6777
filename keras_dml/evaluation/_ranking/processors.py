"""How many processors this process may use, for as many workers."""

import math
import os
import pathlib
from collections.abc import Iterator

_CGROUPS = pathlib.Path("/sys/fs/cgroup")
_OWN_CGROUPS = pathlib.Path("/proc/self/cgroup")


def usable_processors() -> int:
    """Gives how many processors the process may use, at least 1.

    Those that its affinity names (`taskset`, cpusets, Slurm), and no more than the CPU
    limits of its control groups (containers) come to, rounded up: more workers than
    that would only be throttled.

    Returns:
        The number. Where there is neither, as on macOS, the machine's.

    Reference:
        [Linux, "Control Group v2"](https://docs.kernel.org/admin-guide/cgroup-v2.html),
        `cpu.max`, and ["CFS Bandwidth
        Control"](https://docs.kernel.org/scheduler/sched-bwc.html) for version 1.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min([count, *map(math.ceil, _limits())]))


def _limits() -> Iterator[float]:
    """Gives the limits of the process's control groups and those above them, in CPUs.

    In a container the path of a group may be the host's, whose folders are not there;
    then only the topmost folder, which is the container's, is read.
    """
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = _CGROUPS / controllers
        group = top / path.strip("/")
        for folder in [group, *group.parents]:
            if not folder.is_relative_to(top):
                break
            quota, period = _quota(folder)
            if quota > 0 and period > 0:
                yield quota / period


def _quota(folder: pathlib.Path) -> tuple[int, int]:
    """Reads microseconds of CPU time and in which period; 0 or less for no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota), int(period)
    except (OSError, ValueError):  # no such file, or "max"
        return 0, 0
