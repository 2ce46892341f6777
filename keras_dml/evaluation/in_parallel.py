"""Work shared by the cores."""

import os
from collections.abc import Callable
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import threadpoolctl


def in_parallel(work: Callable[[int], object], items: Iterable[int]) -> list:
    """Calls `work` with each item, on all cores, and gives what it returned, in order.

    One worker a core, the matrix library held to one thread, is faster than one worker
    whose matrix products share the cores: what is done between the products is shared
    too.
    """
    items = list(items)
    workers = min(len(items), os.cpu_count() or 1)
    if workers < 2:
        return list(map(work, items))
    with (
        threadpoolctl.threadpool_limits(1),
        ThreadPoolExecutor(workers) as executor,
    ):
        return list(executor.map(work, items))
