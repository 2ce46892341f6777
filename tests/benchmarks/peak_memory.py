"""The memory of the process while something runs."""

import pathlib
import threading
import time
from collections.abc import Callable

_STATUS = pathlib.Path("/proc/self/statm")
_PAGE = 4096


def resident_mib() -> float:
    """MiB that the process holds now; 0 anywhere but on Linux."""
    return (
        int(_STATUS.read_text().split()[1]) * _PAGE / 2**20 if _STATUS.exists() else 0
    )


def peak_mib(run: Callable[[], object]) -> float:
    """MiB that the process holds at most while `run` runs, looked at every 5 ms."""
    peak, done = resident_mib(), threading.Event()

    def watch():
        nonlocal peak
        while not done.is_set():
            peak = max(peak, resident_mib())
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return peak
