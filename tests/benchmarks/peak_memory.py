"""The memory of the process while something runs."""

import pathlib
import threading
import time
from collections.abc import Callable

_STATUS = pathlib.Path("/proc/self/status")


def resident_mib() -> float:
    """MiB that the process holds now; 0 anywhere but on Linux."""
    return _mib("VmRSS")


def anonymous_mib() -> float:
    """The same without pages of files, which the system takes back when it likes."""
    return _mib("RssAnon")


def peak_mib(
    run: Callable[[], object], held: Callable[[], float] = resident_mib
) -> float:
    """MiB that the process holds at most while `run` runs, looked at every 5 ms."""
    peak, done = held(), threading.Event()

    def watch():
        nonlocal peak
        while not done.is_set():
            peak = max(peak, held())
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return peak


def _mib(field):
    if not _STATUS.exists():
        return 0
    fields = dict(line.split(":") for line in _STATUS.read_text().splitlines())
    return int(fields[field].split()[0]) / 2**10
